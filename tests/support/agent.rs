//! A sample agent: a `control` in POSIX sh that logs every call and can be made to misbehave.
//! The process of the agent is `sleep 0 <seconds>`. The 0 distinguishes it from a sleep of a script.

use super::archive::Tarball;
use std::fmt::Write as _;
use std::path::Path;

#[derive(Clone)]
pub struct Agent {
    pub name: String,
    pub version: String,
    lifetime: String,
    on_start: String,
    on_stop: String,
    on_status: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Agent {
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            lifetime: "86400".to_owned(),
            on_start: String::new(),
            on_stop: String::new(),
            on_status: String::new(),
            files: vec![(
                "program".to_owned(),
                format!("the program of {name} {version}\n").into_bytes(),
            )],
        }
    }

    /// Sets shell lines that `control start` runs before it starts the agent. `$sandbox` is the sandbox's directory.
    pub fn on_start(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.on_start);
        self
    }

    pub fn on_stop(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.on_stop);
        self
    }

    pub fn on_status(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.on_status);
        self
    }

    /// Lets the process end by itself after so many seconds, which may be a fraction.
    pub fn lives(mut self, seconds: &str) -> Self {
        seconds.clone_into(&mut self.lifetime);
        self
    }

    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// Returns the control script. It logs its calls to `<sandbox>/<name>.calls` as `<version> <verb>`.
    pub fn control(&self, sandbox: &Path) -> String {
        let Self { name, version, .. } = self;
        let mut text = format!(
            "#!/bin/sh\n# {name} {version}, a sample agent.\nsandbox='{}'\n",
            sandbox.display()
        );
        let _ = writeln!(text, "echo \"{version} $1\" >>\"$sandbox/{name}.calls\"");
        text.push_str(ALIVE);
        for (verb, shell, body) in [
            ("start", &self.on_start, START),
            ("stop", &self.on_stop, STOP),
            ("status", &self.on_status, STATUS),
        ] {
            let shell = if shell.is_empty() { ":" } else { shell };
            let _ = writeln!(
                text,
                "on_{verb}() {{\n{shell}\n{}\n}}",
                body.replace("LIFETIME", &self.lifetime)
            );
        }
        text.push_str("case \"$1\" in\nstart | stop | status) \"on_$1\" ;;\n*) echo 'start|stop|status'; exit 2 ;;\nesac\n");
        text
    }

    /// Returns the files besides `control`, relative to the version's directory.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    pub fn archive(&self, sandbox: &Path) -> Tarball {
        let start = Tarball::new().file("control", 0o755, self.control(sandbox));
        self.files.iter().fold(start, |tarball, (path, content)| {
            tarball.file(path, 0o644, content)
        })
    }

    pub fn tarball(&self, sandbox: &Path) -> Vec<u8> {
        self.archive(sandbox).gzip()
    }

    /// Whether this directory holds every file of this version and its control script.
    pub fn is_whole_in(&self, dir: &Path, sandbox: &Path) -> bool {
        std::fs::read_to_string(dir.join("control")).is_ok_and(|text| text == self.control(sandbox))
            && self.files.iter().all(|(path, content)| {
                std::fs::read(dir.join(path)).is_ok_and(|found| found == *content)
            })
    }
}

/// Checks that the process is a sleep in this version's directory, or in one that was deleted. On a busy machine another
/// process, perhaps that of another agent, soon gets the same pid, and must not be stopped.
const ALIVE: &str = r#"alive() {
    [ -f app.pid ] || return 1
    read -r pid <app.pid
    { read -r _ name state _ <"/proc/$pid/stat"; } 2>/dev/null && [ "$name" = '(sleep)' ] && [ "$state" != Z ] || return 1
    [ "/proc/$pid/cwd" -ef . ] || ! [ -e "/proc/$pid/cwd/control" ]
}
"#;

const START: &str = r"if alive; then exit 0; fi
sleep 0 LIFETIME </dev/null >/dev/null 2>&1 &
echo $! >app.pid";

const STOP: &str = r#"if alive; then kill "$pid"; fi
while alive; do sleep 0.01; done
rm -f app.pid"#;

const STATUS: &str = "if alive; then echo started; else echo stoped; fi";
