//! The long texts of the binary, as build.rs has compressed them into one.

use crate::gzip;

const DEFLATED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/texts.deflate"));

/// In the order of build.rs.
#[derive(Clone, Copy)]
pub enum Name {
    Head,
    Help,
    Page,
    Metrics,
    Doctor,
}

pub fn text(name: Name) -> String {
    let texts = String::from_utf8(gzip::inflate(DEFLATED)).unwrap_or_default();
    let text = texts.split('\0').nth(name as usize);
    text.unwrap_or_default().to_owned()
}

/// Writes the template as far as its `|`, each `%` in it replaced by the next number, each `$` by the next label, as
/// Prometheus wants it. What is left is the rest of the template.
pub fn fill<'a>(template: &'a str, labels: &[&str], numbers: &[u64], out: &mut String) -> &'a str {
    let (mut labels, mut numbers) = (labels.iter(), numbers.iter());
    let mut rest = template.chars();
    for c in rest.by_ref() {
        match c {
            '%' => *out += &numbers.next().unwrap_or(&0).to_string(),
            '$' => escape(labels.next().unwrap_or(&""), out),
            '|' => break,
            _ => out.push(c),
        }
    }
    rest.as_str()
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if matches!(c, '\n' | '"' | '\\') {
            out.push('\\');
        }
        out.push(if c == '\n' { 'n' } else { c });
    }
}
