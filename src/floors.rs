//! Checks the layout of this source: a file imports only from the folders below its own in the list of lib.rs, and no two
//! files import each other, directly or through others. Modules of tests may import anything.
//! A re-export (`pub use`) is no import: whoever uses the name depends on the file that defines it.
#![expect(clippy::disallowed_methods, reason = "it reads the source")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

/// `["daemon", "state"]` for `crate::daemon::state`; empty for the root of the crate.
type ModulePath = Vec<String>;

struct Module {
    file: String,
    /// The modules that it declares, in the order of the file, without those of tests.
    children: Vec<String>,
    imports: Vec<Import>,
}

struct Import {
    /// From the root of the crate on.
    path: Vec<String>,
    /// The name that it has in the file.
    name: String,
    is_reexport: bool,
}

struct House(BTreeMap<ModulePath, Module>);

impl House {
    fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut to_read = vec![ModulePath::new()];
        while let Some(path) = to_read.pop() {
            let stem = path.join("/");
            let names = match stem.as_str() {
                "" => vec!["lib.rs".to_owned()],
                _ => vec![format!("{stem}.rs"), format!("{stem}/mod.rs")],
            };
            let file = names.into_iter().find(|name| src.join(name).exists());
            let file = file.unwrap_or_else(|| panic!("src has no file for the module {stem}"));
            let text = fs::read_to_string(src.join(&file)).expect("it is a text file");
            let module = Module::parse(file, &text, &path);
            to_read.extend(module.children.iter().map(|child| joined(&path, child)));
            modules.insert(path, module);
        }
        Self(modules)
    }

    /// Returns the module that defines what the path names.
    fn definition(&self, path: &[String]) -> &ModulePath {
        let is_module = |length: &usize| self.0.contains_key(&path[..*length]);
        let length = (0..=path.len()).rev().find(is_module).unwrap_or(0);
        let (found, module) = self.0.get_key_value(&path[..length]).expect("the root");
        let reexport = path.get(length).and_then(|name| {
            let is_it = |import: &&Import| import.is_reexport && import.name == *name;
            module.imports.iter().find(is_it)
        });
        reexport.map_or(found, |reexport| self.definition(&reexport.path))
    }

    /// Returns the modules that each module imports, itself excepted.
    fn edges(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let used = |module: &Module| {
            let imports = module.imports.iter().filter(|import| !import.is_reexport);
            let used: Vec<_> = imports
                .map(|import| self.definition(&import.path))
                .collect();
            used
        };
        let modules = self.0.iter();
        modules
            .map(|(path, module)| {
                let used = used(module).into_iter().filter(|used| *used != path);
                (path, used.collect())
            })
            .collect()
    }

    fn file(&self, module: &[String]) -> &str {
        &self.0[module].file
    }

    /// Returns a line for each import of a folder that stands above, or of the root of the crate.
    fn imports_upward(&self) -> Vec<String> {
        let root: &[String] = &[];
        let floors = &self.0[root].children;
        let floor = |module: &ModulePath| {
            let folder = module.first()?;
            floors.iter().position(|floor| floor == folder)
        };
        let edges = self.edges();
        let edges = edges
            .iter()
            .flat_map(|(from, all)| all.iter().map(move |to| (*from, *to)));
        edges
            .filter(|(from, to)| floor(to) < floor(from))
            .map(|(from, to)| {
                let (from, to) = (self.file(from), self.file(to));
                format!("src/{from} imports src/{to}, which stands above it in src/lib.rs")
            })
            .collect()
    }

    /// Returns a line for each file that imports itself through others: the shortest way.
    fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let mut circles = BTreeMap::new();
        for start in self.0.keys() {
            if let Some(way) = shortest_circle(start, &edges) {
                let members: BTreeSet<_> = way.iter().copied().collect();
                let files: Vec<String> = way
                    .iter()
                    .map(|at| format!("src/{}", self.file(at)))
                    .collect();
                circles.entry(members).or_insert(files.join(" imports "));
            }
        }
        circles.into_values().collect()
    }
}

impl Module {
    fn parse(file: String, text: &str, path: &[String]) -> Self {
        let tests = text.find("#[cfg(test)]\nmod tests {");
        let tokens = tokens(&text[..tests.unwrap_or(text.len())]);
        let children = children(&tokens);
        let mut names: BTreeMap<String, Vec<String>> = children
            .iter()
            .map(|child| (child.clone(), joined(path, child)))
            .collect();
        let mut imports: Vec<Import> = Vec::new();
        let (mut at, mut is_reexport) = (0, false);
        while at < tokens.len() {
            let before = at.checked_sub(1).map_or("", |before| &tokens[before]);
            let is_path = tokens.get(at + 1).is_some_and(|next| next == "::");
            let prefix = (is_path && !["::", "."].contains(&before))
                .then(|| start_of_path(&tokens[at], path, &names))
                .flatten();
            match (tokens[at].as_str(), prefix) {
                (_, Some(prefix)) => {
                    at += 2;
                    let first = imports.len();
                    read_tree(&tokens, &mut at, &prefix, is_reexport, &mut imports);
                    let found = imports[first..].iter();
                    names.extend(found.map(|import| (import.name.clone(), import.path.clone())));
                    continue;
                }
                ("use", None) => is_reexport = ["pub", ")"].contains(&before),
                (";", None) => is_reexport = false,
                _ => {}
            }
            at += 1;
        }
        Self {
            file,
            children,
            imports,
        }
    }
}

fn start_of_path(
    token: &str,
    path: &[String],
    names: &BTreeMap<String, Vec<String>>,
) -> Option<Vec<String>> {
    match token {
        "crate" => Some(Vec::new()),
        "self" => Some(path.to_vec()),
        "super" => Some(path[..path.len().saturating_sub(1)].to_vec()),
        name => names.get(name).cloned(),
    }
}

/// Reads what follows a prefix and its `::`, groups in braces too.
fn read_tree(
    tokens: &[String],
    at: &mut usize,
    prefix: &[String],
    is_reexport: bool,
    out: &mut Vec<Import>,
) {
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut path = prefix.to_vec();
    loop {
        match token(*at) {
            "{" => {
                *at += 1;
                while !["}", ""].contains(&token(*at)) {
                    let start = *at;
                    read_tree(tokens, at, &path, is_reexport, out);
                    *at += usize::from(*at == start || token(*at) == ",");
                }
                *at += 1;
                return;
            }
            "super" => drop(path.pop()),
            "self" => {}
            name if is_word(name) => path.push(name.to_owned()),
            _ => break,
        }
        *at += 1;
        if token(*at) != "::" {
            break;
        }
        *at += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if token(*at) == "as" {
        token(*at + 1).clone_into(&mut name);
        *at += 2;
    }
    out.push(Import {
        path,
        name,
        is_reexport,
    });
}

/// Returns the names of `mod name;`, without modules of tests.
fn children(tokens: &[String]) -> Vec<String> {
    const ONLY_TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut children = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        let is_module = window[0] == "mod" && window[2] == ";";
        if is_module && !tokens[..at].ends_with(&ONLY_TESTS.map(str::to_owned)) {
            children.push(window[1].clone());
        }
    }
    children
}

fn shortest_circle<'a>(
    start: &'a ModulePath,
    edges: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
) -> Option<Vec<&'a ModulePath>> {
    let mut observation = BTreeSet::new();
    let mut ways = VecDeque::from([vec![start]]);
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| edges.get(last))? {
            let mut longer = way.clone();
            longer.push(next);
            if *next == start {
                return Some(longer);
            }
            if observation.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Splits source into words, `::` and single characters, without comments, texts and lifetimes.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = length_of_literal(rest) {
            length
        } else {
            let length = match rest.find(|c: char| !is_word_char(c)).unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// Returns the length of the text, character or lifetime that the source begins with.
fn length_of_literal(source: &str) -> Option<usize> {
    if let Some(raw) = source.strip_prefix("r#\"") {
        return Some(3 + raw.find("\"#").map_or(raw.len(), |end| end + 2));
    }
    let quote = source.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let inner = &source[1..];
    let is_lifetime = quote == '\'' && !inner.starts_with('\\') && {
        let mut chars = inner.chars().skip(1);
        chars.next() != Some('\'')
    };
    if is_lifetime {
        return Some(1);
    }
    let mut is_escaped = false;
    let end = inner.char_indices().find(|(_, c)| {
        let is_end = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    Some(1 + end.map_or(inner.len(), |(at, _)| at + 1))
}

fn is_word(token: &str) -> bool {
    token.chars().all(is_word_char) && !token.is_empty()
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn joined(path: &[String], child: &str) -> ModulePath {
    let mut path = path.to_vec();
    path.push(child.to_owned());
    path
}

fn house() -> House {
    House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn a_file_imports_only_from_folders_below_its_own() {
    let house = house();
    assert!(house.edges().values().any(|used| used.len() > 3));
    let wrong = house.imports_upward();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let wrong = house().circles();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
