//! What `-h` prints, for the program and for each command: help.txt.

use crate::texts;

/// The help of a command, or of the program; none where there is no such command.
pub fn text(about: Option<&str>) -> Option<String> {
    let sections = texts::text(texts::Name::Help);
    // Each but the first, which is the program's, begins with its command. No text has another `#`.
    let mut sections = sections.split('#');
    let text = match about {
        None | Some("help") => sections.next(),
        Some(about) => sections.skip(1).find_map(|section| {
            let (command, text) = section.split_once('\n')?;
            (command == about).then_some(text)
        }),
    };
    text.map(|text| text.trim_end().to_owned())
}
