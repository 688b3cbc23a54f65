//! A directory in memory, for tests that a disk would slow down: tens of thousands of directories, hundreds of megabytes.

use super::host::Host;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The memory that the largest test needs, in bytes.
const ROOM: u64 = 2 << 30;

/// A directory in memory, or in the sandbox if memory has too little room. Dropping it removes it.
pub struct InMemory {
    pub dir: PathBuf,
}

impl InMemory {
    pub fn of(host: &Host) -> Self {
        let name = host.dir.file_name().expect("a sandbox has a name");
        let memory = Path::new("/dev/shm");
        let base = if has_room(memory) { memory } else { &host.dir };
        let dir = base.join(name).join("work");
        fs::create_dir_all(&dir).expect("a directory");
        Self { dir }
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.dir.parent().expect("it has one"));
    }
}

fn has_room(dir: &Path) -> bool {
    let mut stat = Command::new("stat");
    let output = stat.args(["-f", "-c", "%a %S"]).arg(dir).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let numbers: Option<Vec<u64>> = text.ok().and_then(|text| {
        let words = text.split_whitespace().map(|word| word.parse().ok());
        words.collect()
    });
    numbers.is_some_and(|numbers| numbers.iter().product::<u64>() >= ROOM && numbers.len() == 2)
}
