//! `cargo run --example demo` shows the main job of ops-updater on one sandbox host and brings its own server.
//! It runs the release binary through the shipped `control` and leaves no process and no file behind.
//! It exits 0 only if every part succeeded. With `--serve` it only runs the server, for a person to try an updater.
#![allow(
    clippy::disallowed_methods,
    reason = "the demo runs programs and writes files"
)]

#[path = "demo/reaper.rs"]
mod reaper;
#[path = "demo/serve.rs"]
mod serve;
#[path = "demo/show.rs"]
mod show;
#[path = "support/mod.rs"]
mod support;

use miniserde::json::Value;
use reaper::{Reaper, SERVED};
use show::Show;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use support::host::{Host, sandbox_dir};
use support::json::{Json as _, parse};

const HELP: &str = "\
cargo run --example demo                 install, upgrade, crash, roll back and stop a sample agent, narrated;
                                         exit 0 only if all of it was seen
cargo run --example demo -- --serve      keep an ops-meta with a release store running instead
      --listen HOST:PORT                 where (127.0.0.1:2000; give an address of this host to let others in)
      --dir DIR                          its directory, which stays (a new one, which is removed at the end)

The served directory, filled with a sample agent in two versions if these files are not there:
  {dir}/{arch}/{name}-{version}.tar.gz       a release; arch as in linux_amd64
  {dir}/{arch}/{name}-{version}.tar.gz.md5   its digest, as md5sum prints it
  {dir}/desired.json                         the answer to every heartbeat, read again for each: edit it and watch

The demo builds the release binary first; OPS_UPDATER_BIN names another one to use.
";

enum Mode {
    Demo,
    Serve {
        listen: String,
        /// None: one for this run alone.
        dir: Option<PathBuf>,
    },
    Help,
    /// Hidden: cleans up after a demo, also after one that was killed.
    Reap,
}

fn main() -> ExitCode {
    let mode = mode().map_err(|e| format!("{e}; see --help"));
    let done = mode.and_then(|mode| match mode {
        Mode::Demo => demo(),
        Mode::Serve { listen, dir } => serve(&listen, dir),
        Mode::Reap => reaper::reap(),
        Mode::Help => {
            print!("{HELP}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn mode() -> Result<Mode, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt as _};
    let (mut serve, mut reap) = (false, false);
    let mut listen = "127.0.0.1:2000".to_owned();
    let mut dir = None;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Mode::Help),
            Long("reap") => reap = true,
            Long("serve") => serve = true,
            Long("listen") => listen = args.value()?.string()?,
            Long("dir") => dir = Some(args.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(match (reap, serve) {
        (true, _) => Mode::Reap,
        (_, true) => Mode::Serve { listen, dir },
        _ => Mode::Demo,
    })
}

fn demo() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("the demo finds processes through /proc, so it needs Linux".to_owned());
    }
    let binary = binary()?;
    let dir = sandbox_dir();
    let reaper = Reaper::of(&dir)?;
    let show = Show::new(Host::at(dir));
    let seen = show.set_up(&binary).and_then(|()| show.play());
    if seen.is_err() {
        show.print_log();
    }
    let took = show.elapsed();
    drop(show);
    let cleaned = reaper.finish();
    seen.and(cleaned)?;
    println!("\nAll of it was seen, in {took:.1} s.");
    Ok(())
}

/// Runs until it is interrupted.
fn serve(listen: &str, dir: Option<PathBuf>) -> Result<(), String> {
    if let Some(dir) = dir {
        return serve::serve(listen, &dir, "stays");
    }
    let tmp = env::temp_dir().canonicalize();
    let tmp = tmp.map_err(|e| format!("no temp directory: {e}"))?;
    let dir = tmp.join(format!("{SERVED}{}", std::process::id()));
    // It fails if somebody else has made it: whoever owns it chooses what is served.
    fs::create_dir(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    let reaper = Reaper::of(&dir)?;
    let served = serve::serve(listen, &dir, "is removed then");
    let cleaned = reaper.finish();
    served.and(cleaned)
}

/// Returns the path of the release binary. Builds it unless `OPS_UPDATER_BIN` names one.
fn binary() -> Result<PathBuf, String> {
    if let Some(given) = env::var_os("OPS_UPDATER_BIN") {
        return PathBuf::from(&given)
            .canonicalize()
            .map_err(|e| format!("OPS_UPDATER_BIN={}: {e}", given.display()));
    }
    // cargo shows its progress on stderr.
    println!("building the release binary");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--bin", "ops-updater"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let path = messages
        .lines()
        .map(parse)
        .find_map(|message| match message.field("executable") {
            Value::String(path) => Some(PathBuf::from(path)),
            _ => None,
        });
    path.filter(|_| built.status.success())
        .ok_or_else(|| "cargo build --release failed".to_owned())
}
