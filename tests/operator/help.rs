//! Tests the help, the man page, the names in the completions, and the `control` that passes commands on. All of them name
//! the same commands.

use crate::operator::control::{command as control, unpacked};
use crate::support::host::Host;
use crate::support::platform::{binary, command, skipped};
use crate::support::procs::write_script;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The commands that `control` implements itself.
const CONTROL_COMMANDS: [&str; 3] = ["status", "pid", "help"];

const ONLY_OF_CONTROL: [&str; 8] = [
    "start", "stop", "restart", "tail", "reload", "sync", "upgrade", "revert",
];

fn run(words: &[&str]) -> Output {
    let output = command(&binary()).args(words).output();
    output.expect("the binary runs")
}

#[track_caller]
fn printed(words: &[&str]) -> String {
    let output = run(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}");
    assert!(output.stderr.is_empty(), "{words:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the commands of the overview: the first word of each line in the paragraphs on commands.
pub fn commands() -> Vec<String> {
    let overview = printed(&["-h"]);
    let paragraphs = overview.split("\n\n");
    let lists = paragraphs.filter(|paragraph| paragraph.starts_with("commands "));
    let lines = lists.flat_map(|list| list.lines().skip(1));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    let words: Vec<_> = words.map(str::to_owned).collect();
    assert!(words.len() > 10, "{overview}");
    words
}

/// Returns whether the text contains the word by itself, not as a part of another word.
fn contains_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .any(|found| found == word)
}

#[test]
fn the_overview_lists_every_command_that_is_understood() {
    let source = source("src/cli/args.rs");
    let rows = source.lines().filter_map(|line| {
        let (word, rest) = line.trim().strip_prefix("(\"")?.split_once('"')?;
        let own = !word.is_empty() && !word.starts_with('-') && rest.starts_with(", Command::");
        own.then(|| word.to_owned())
    });
    let mut understood: Vec<_> = rows
        .filter(|word| !["signal", "beat", "act"].contains(&word.as_str()))
        .collect();
    let mut listed = commands();
    understood.sort();
    understood.dedup();
    listed.sort();
    assert_eq!(listed, understood);
}

#[test]
fn every_command_has_a_help_of_its_own_that_says_how_to_call_it_and_how_it_ends() {
    for command in commands().iter().filter(|command| *command != "help") {
        let help = printed(&["help", command]);
        let usage = format!("usage: ops-updater [-c FILE] {command}");
        assert!(help.starts_with(&usage), "{help}");
        assert!(help.contains("\nexit codes\n  0  "), "{help}");
        assert!(!help.contains('#') && help.len() > 100, "{help}");
    }
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let mut texts = vec![printed(&["-h"])];
    texts.extend(commands().iter().map(|command| printed(&["help", command])));
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.len() <= 80 && line.is_ascii(), "{line}");
        assert_eq!(line.trim_end(), line);
    }
}

#[test]
fn help_may_be_asked_for_before_and_after_a_command() {
    for command in commands() {
        let help = printed(&["help", &command]);
        for words in [
            [&command, "-h"],
            [&command, "--help"],
            ["-h", &command],
            ["--help", &command],
        ] {
            assert_eq!(printed(&words), help, "{words:?}");
        }
    }
    assert_eq!(printed(&["help"]), printed(&["-h"]));
    assert_eq!(
        printed(&["pin", "demo", "1.0.0", "-h"]),
        printed(&["help", "pin"])
    );
}

#[test]
fn help_on_what_is_no_command_exits_with_2_and_names_it() {
    for word in [
        "frobnicate",
        "signal",
        "beat",
        "act",
        "",
        "status\nusage",
        "-",
    ] {
        let output = run(&["help", word]);
        assert_eq!(output.status.code(), Some(2), "{word:?}");
        assert!(output.stdout.is_empty(), "{word:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(message.lines().count(), 1, "{message}");
        let first = word.lines().next().unwrap_or_default();
        assert!(
            message.contains(first) && message.contains("-h"),
            "{message}"
        );
    }
}

#[test]
fn the_man_page_and_the_completions_name_every_command() {
    let pages = [
        "contrib/ops-updater.8",
        "contrib/completions/ops-updater.bash",
        "contrib/completions/_ops-updater",
        "contrib/completions/ops-updater.fish",
    ];
    let mut all = commands();
    all.extend(ONLY_OF_CONTROL.map(str::to_owned));
    for page in pages {
        let text = source(page);
        for command in &all {
            assert!(
                contains_word(&text, command),
                "{page} does not name {command}"
            );
        }
    }
    let entries = source(pages[0]);
    for command in commands() {
        let entry = format!("\n.It Cm {command}");
        assert!(entries.contains(&entry), "no entry for {command}");
    }
}

#[test]
fn the_man_page_has_the_usual_sections_and_an_entry_for_each_key_of_the_configuration() {
    let page = source("contrib/ops-updater.8");
    let sections = page.lines().filter_map(|line| line.strip_prefix(".Sh "));
    let usual = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "CONFIGURATION",
        "SIGNALS",
        "ENVIRONMENT",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    assert!(sections.eq(usual));
    let entries = page.lines().filter_map(|line| line.strip_prefix(".It Ic "));
    let entries: Vec<_> = entries.flat_map(|keys| keys.split(" , ")).collect();
    let checked = Host::new().run("check");
    let text = String::from_utf8(checked.stdout).expect("text");
    let lines = text.lines().skip(2);
    let settings = lines.take_while(|line| !line.starts_with("policy"));
    let keys: Vec<_> = settings.filter_map(|line| line.split(' ').next()).collect();
    assert!(keys.len() > 20, "{text}");
    for key in keys {
        assert!(entries.contains(&key), "no entry for {key}");
    }
}

/// Returns a host whose updater prints its arguments.
fn echoing() -> Host {
    let host = unpacked();
    let updater = host.own.join("ops-updater");
    // It is a link to the binary.
    fs::remove_file(&updater).expect("a link");
    write_script(&updater, "#!/bin/sh\nprintf \"<%s>\" \"$@\"\n");
    host
}

#[test]
fn control_passes_each_command_of_the_binary_on_with_its_operands() {
    let host = echoing();
    let words = commands();
    let passed = words
        .iter()
        .filter(|word| !CONTROL_COMMANDS.contains(&word.as_str()));
    for shell in [&["sh"][..], &["dash"], &["busybox", "sh"]] {
        if Command::new(shell[0]).arg("--help").output().is_err() {
            skipped(&format!("needs {}", shell[0]));
            continue;
        }
        for word in passed.clone() {
            let mut command = control(&host, shell, word);
            let output = command.args(["/an operand", "", "*"]).output();
            let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
            let whole = format!("<-c><cfg.json><{word}></an operand><><*>");
            assert_eq!(output, whole, "{shell:?}");
        }
    }
}

#[test]
fn control_takes_the_file_of_apply_from_where_its_caller_is() {
    let host = echoing();
    for (operand, passed) in [
        ("a b.json", "/usr/a b.json"),
        ("/etc/x", "/etc/x"),
        ("-", "-"),
        ("http://a/x", "http://a/x"),
    ] {
        for option in [None, Some("--detailed-exitcode")] {
            let mut command = control(&host, &["sh"], "apply");
            command.args(option).arg(operand).current_dir("/usr");
            let output = command.output().expect("it runs");
            let output = String::from_utf8(output.stdout).expect("text");
            let option = option.map_or_else(String::new, |option| format!("<{option}>"));
            assert_eq!(output, format!("<-c><cfg.json><apply>{option}<{passed}>"));
        }
    }
}

#[test]
fn control_names_every_command_in_its_help() {
    let host = unpacked();
    let output = control(&host, &["sh"], "help").output();
    let help = String::from_utf8(output.expect("it runs").stdout).expect("text");
    for command in commands().iter().filter(|command| *command != "help") {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
}

#[test]
fn control_check_prints_what_the_binary_prints_and_makes_no_configuration() {
    let host = unpacked();
    let check = || {
        let output = control(&host, &["sh"], "check").output();
        output.expect("it runs")
    };
    let own = host.run("check");
    let passed = check();
    assert_eq!(passed.status.code(), Some(0));
    let lines = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(lines(&passed), lines(&own));
    fs::remove_file(host.config_file()).expect("it was there");
    let missing = check();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cfg.json"));
    assert!(!host.config_file().exists());
}
