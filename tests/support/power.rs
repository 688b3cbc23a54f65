//! The states of a disk after a power cut: a model of a file system that promises no more than POSIX does. The bytes of a
//! file are durable when the file was synced, and a name when its directory was synced. Until then the disk may have kept
//! any of the changes without the others, in any order.

use super::calls::Change;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

type Number = usize;
type Names = BTreeMap<OsString, Number>;

#[derive(Clone)]
enum Node {
    File { bytes: Vec<u8>, is_synced: bool },
    Dir(Dir),
}

#[derive(Clone, Default)]
struct Dir {
    /// The names in the directory as programs see them.
    now: Names,
    /// The durable names.
    lasting: Names,
}

/// One name that is added to a directory or removed from it.
#[derive(Clone)]
struct Edit {
    dir: Number,
    name: OsString,
    /// The file of this name.
    node: Number,
    is_set: bool,
}

/// Edits that happen together or not at all. They are durable when all of their directories were synced.
#[derive(Clone)]
struct Pending {
    edits: Vec<Edit>,
    unsynced: BTreeSet<Number>,
}

/// The disk with all changes, and those of them that are durable.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    pending: Vec<Pending>,
}

/// The content of the disk when the power is back. Paths are relative to the root.
pub struct Found<'a> {
    disk: &'a Disk,
    /// The names of the directories that have other names than the durable ones.
    edited: BTreeMap<Number, Names>,
}

impl Disk {
    /// Makes a disk on which everything below `root` is durable.
    pub fn of(root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_path_buf(),
            nodes: Vec::new(),
            pending: Vec::new(),
        };
        disk.take_in(root);
        disk
    }

    fn take_in(&mut self, path: &Path) -> Number {
        let meta = fs::symlink_metadata(path).expect("it is there");
        if !meta.is_dir() {
            let bytes = fs::read(path).unwrap_or_default();
            return self.add(Node::File {
                bytes,
                is_synced: true,
            });
        }
        let number = self.add(Node::Dir(Dir::default()));
        let mut names = Names::new();
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            names.insert(entry.file_name(), self.take_in(&entry.path()));
        }
        self.nodes[number] = Node::Dir(Dir {
            now: names.clone(),
            lasting: names,
        });
        number
    }

    fn add(&mut self, node: Node) -> Number {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn dir(&self, number: Number) -> Option<&Dir> {
        match &self.nodes[number] {
            Node::Dir(dir) => Some(dir),
            Node::File { .. } => None,
        }
    }

    fn dir_mut(&mut self, number: Number) -> &mut Dir {
        match &mut self.nodes[number] {
            Node::Dir(dir) => dir,
            Node::File { .. } => panic!("a file is no directory"),
        }
    }

    /// Returns the number of the node that programs see at this path.
    fn now(&self, path: &Path) -> Option<Number> {
        self.now_below(path.strip_prefix(&self.root).expect("below the root"))
    }

    fn now_below(&self, path: &Path) -> Option<Number> {
        path.iter()
            .try_fold(0, |number, part| self.dir(number)?.now.get(part).copied())
    }

    fn parent(&mut self, path: &Path) -> (Number, OsString) {
        let above = path.parent().expect("below the root");
        let dir = self
            .now(above)
            .unwrap_or_else(|| panic!("no {}", above.display()));
        (dir, path.file_name().expect("a name").to_owned())
    }

    /// Adds and removes names, all at once.
    fn edit(&mut self, edits: Vec<Edit>) {
        if edits.is_empty() {
            // The model does not know what a script made, so it ignores its removal.
            return;
        }
        let mut unsynced = BTreeSet::new();
        for Edit {
            dir,
            name,
            node,
            is_set,
        } in &edits
        {
            unsynced.insert(*dir);
            if *is_set {
                self.dir_mut(*dir).now.insert(name.clone(), *node);
            } else {
                self.dir_mut(*dir).now.remove(name);
            }
        }
        self.pending.push(Pending { edits, unsynced });
    }

    fn set(&mut self, path: &Path, node: Number) -> Edit {
        let (dir, name) = self.parent(path);
        Edit {
            dir,
            name,
            node,
            is_set: true,
        }
    }

    fn unset(&mut self, path: &Path) -> Option<Edit> {
        let node = self.now(path)?;
        let (dir, name) = self.parent(path);
        Some(Edit {
            dir,
            name,
            node,
            is_set: false,
        })
    }

    /// Applies a change that a program made.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path, empties) => match self.now(path) {
                Some(number) if *empties => self.touch(number, Vec::clear),
                Some(_) => {}
                None => self.make(
                    path,
                    Node::File {
                        bytes: Vec::new(),
                        is_synced: false,
                    },
                ),
            },
            Change::Symlink(path) => self.make(
                path,
                Node::File {
                    bytes: Vec::new(),
                    is_synced: true,
                },
            ),
            Change::MakeDir(path) => self.make(path, Node::Dir(Dir::default())),
            Change::Write(path, more) => self.touch_at(path, |bytes| bytes.extend_from_slice(more)),
            Change::Truncate(path) => self.touch_at(path, Vec::clear),
            Change::Chmod(path) => self.touch_at(path, |_| {}),
            Change::Sync(path) => self.sync(path),
            Change::SyncAll(path) => self.sync_below(path),
            Change::Unlink(path) | Change::RemoveDir(path) => {
                let edits = Vec::from_iter(self.unset(path));
                self.edit(edits);
            }
            Change::Link(from, to) => {
                if let Some(node) = self.now(from) {
                    let edits = vec![self.set(to, node)];
                    self.edit(edits);
                }
            }
            Change::Rename(from, to) => {
                if let Some(old) = self.unset(from) {
                    let edits = vec![self.set(to, old.node), old];
                    self.edit(edits);
                }
            }
            Change::Exchange(one, other) => {
                if let (Some(first), Some(second)) = (self.now(one), self.now(other)) {
                    let edits = vec![self.set(one, second), self.set(other, first)];
                    self.edit(edits);
                }
            }
            Change::Tell | Change::Spawn(..) | Change::Signal(_) => {}
        }
    }

    fn make(&mut self, path: &Path, node: Node) {
        let node = self.add(node);
        let edits = vec![self.set(path, node)];
        self.edit(edits);
    }

    fn touch_at(&mut self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
        if let Some(number) = self.now(path) {
            self.touch(number, how);
        }
    }

    fn touch(&mut self, number: Number, how: impl FnOnce(&mut Vec<u8>)) {
        if let Node::File { bytes, is_synced } = &mut self.nodes[number] {
            how(bytes);
            *is_synced = false;
        }
    }

    fn sync(&mut self, path: &Path) {
        if let Some(number) = self.now(path) {
            self.sync_nodes(&BTreeSet::from([number]));
        }
    }

    /// Syncs what is below the path, which is the least that syncfs does: nothing may rely on it that made names elsewhere.
    fn sync_below(&mut self, path: &Path) {
        let mut below = BTreeSet::new();
        let mut left = Vec::from_iter(self.now(path));
        while let Some(number) = left.pop() {
            below.insert(number);
            left.extend(
                self.dir(number)
                    .into_iter()
                    .flat_map(|dir| dir.now.values()),
            );
        }
        self.sync_nodes(&below);
    }

    fn sync_nodes(&mut self, numbers: &BTreeSet<Number>) {
        for number in numbers {
            if let Node::File { is_synced, .. } = &mut self.nodes[*number] {
                *is_synced = true;
            }
        }
        for change in &mut self.pending {
            change.unsynced.retain(|dir| !numbers.contains(dir));
        }
        let pending = std::mem::take(&mut self.pending);
        let (lasts, waits) = pending
            .into_iter()
            .partition(|change| change.unsynced.is_empty());
        self.pending = waits;
        let lasts: Vec<Pending> = lasts;
        for edit in lasts.iter().flat_map(|change| &change.edits) {
            edit.carry_out(&mut self.dir_mut(edit.dir).lasting);
        }
    }

    /// Returns the disks that a restart could find if the power were cut now. They have none of the changes that are not
    /// synced, all of them, the first ones up to each change, each change alone, or all but one.
    pub fn after_a_cut(&self) -> Vec<Found<'_>> {
        let count = self.pending.len();
        let mut kept: BTreeSet<Vec<bool>> = BTreeSet::new();
        for at in 0..=count {
            kept.insert((0..count).map(|index| index < at).collect());
            kept.insert((0..count).map(|index| index == at).collect());
            kept.insert((0..count).map(|index| index != at).collect());
        }
        kept.into_iter().map(|kept| self.found(&kept)).collect()
    }

    fn found(&self, kept: &[bool]) -> Found<'_> {
        let mut edited = BTreeMap::new();
        for (change, _) in self.pending.iter().zip(kept).filter(|(_, kept)| **kept) {
            for edit in &change.edits {
                let durable = || self.dir(edit.dir).map(|dir| dir.lasting.clone());
                let names = edited
                    .entry(edit.dir)
                    .or_insert_with(|| durable().unwrap_or_default());
                edit.carry_out(names);
            }
        }
        Found { disk: self, edited }
    }
}

impl Edit {
    fn carry_out(&self, names: &mut Names) {
        if self.is_set {
            names.insert(self.name.clone(), self.node);
        } else if names.get(&self.name) == Some(&self.node) {
            names.remove(&self.name);
        }
    }
}

impl Found<'_> {
    fn names_in(&self, dir: Number) -> Option<&Names> {
        let edited = self.edited.get(&dir);
        edited.or_else(|| Some(&self.disk.dir(dir)?.lasting))
    }

    fn at(&self, path: &Path) -> Option<Number> {
        path.iter()
            .try_fold(0, |dir, part| self.names_in(dir)?.get(part).copied())
    }

    pub fn names(&self, dir: &Path) -> impl Iterator<Item = Cow<'_, str>> {
        let names = self.at(dir).and_then(|dir| self.names_in(dir));
        let names = names.into_iter().flat_map(BTreeMap::keys);
        names.map(|name| name.to_string_lossy())
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.at(path).is_some()
    }

    /// Returns the bytes of a file, or `None` if it is missing or its bytes are not durable.
    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        match &self.disk.nodes[self.at(path)?] {
            Node::File { bytes, is_synced } => is_synced.then_some(bytes),
            Node::Dir(_) => None,
        }
    }

    /// Whether the path leads to the same file as before the cut, with the same bytes.
    pub fn is_as_now(&self, path: &Path) -> bool {
        let now = self.disk.now_below(path);
        now == self.at(path) && (now.is_none() || self.read(path).is_some())
    }
}
