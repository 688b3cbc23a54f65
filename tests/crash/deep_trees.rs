//! What an agent or an archive leaves may be of any depth. It is removed with the few descriptors that a host allows.

use crate::support::host::Host;
use crate::support::platform;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Makes a tree of this many levels. Each new level is put above the others, because no path to the lowest would be accepted.
fn make_tree(dir: &Path, name: &str, levels: u32) {
    let (tree, above) = (dir.join(name), dir.join("above"));
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("file"), "content").expect("a file");
    for _ in 1..levels {
        fs::create_dir(&above).expect("a directory");
        fs::rename(&tree, above.join("below")).expect("the levels so far");
        fs::rename(&above, &tree).expect("one level more");
    }
}

#[test]
fn leftovers_of_ten_thousand_levels_are_removed_with_few_descriptors() {
    let mut host = Host::with_demo("1.0.0");
    assert!(host.stop().success());
    let running = host.running("demo");
    let ours = host.agent_dir("demo").join(".updater");
    make_tree(&ours, "0.9.0.new", 10_000);
    let inner = host.command();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(&host.dir)
        .env(crate::support::host::MARK, &host.dir)
        .stdin(Stdio::null());
    host.start_as(shell);
    // A busy disk takes 1 to 3 ms for each level.
    let long = platform::patience(Duration::from_secs(120));
    host.wait_within(long, "the leftovers to be removed", || {
        !ours.join("0.9.0.new").exists()
    });
    assert_eq!(host.running("demo"), running);
}
