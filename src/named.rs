//! What is kept for each agent, sorted by name. A `BTreeMap` costs 6 to 10 KB for each type that it holds, a sorted
//! list a few hundred bytes; a host has tens of agents, not millions.

use crate::fields::{Field, Json};
use crate::model::AgentName;

#[derive(PartialEq, Debug)]
pub struct Named<T> {
    /// Sorted; the value of each stands at its place.
    names: Names,
    /// Boxed, so that they are moved about by the same code.
    values: Vec<Box<T>>,
}

/// Apart from the values, so that all types share the search.
#[derive(PartialEq, Debug, Default)]
struct Names(Vec<AgentName>);

impl Names {
    fn find(&self, name: &AgentName) -> Result<usize, usize> {
        self.0.binary_search(name)
    }

    fn place(&mut self, name: AgentName) -> Result<usize, usize> {
        let found = self.find(&name);
        if let Err(at) = found {
            self.0.insert(at, name);
        }
        found
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            names: Names::default(),
            values: Vec::new(),
        }
    }
}

impl<T> Named<T> {
    pub fn get(&self, name: &AgentName) -> Option<&T> {
        Some(&self.values[self.names.find(name).ok()?])
    }

    pub fn get_mut(&mut self, name: &AgentName) -> Option<&mut T> {
        Some(&mut self.values[self.names.find(name).ok()?])
    }

    /// Tells whether the name is new.
    pub fn insert(&mut self, name: AgentName, value: T) -> bool {
        let place = self.names.place(name);
        let value = Box::new(value);
        match place {
            Ok(at) => self.values[at] = value,
            Err(at) => insert_at(&mut self.values, at, value),
        }
        place.is_err()
    }

    pub fn remove(&mut self, name: &AgentName) -> Option<Box<T>> {
        let at = self.names.find(name).ok()?;
        self.names.0.remove(at);
        Some(self.values.remove(at))
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&AgentName, &T) -> bool) {
        for at in (0..self.values.len()).rev() {
            if !stays(&self.names.0[at], &self.values[at]) {
                self.names.0.remove(at);
                self.values.remove(at);
            }
        }
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|value| &**value)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&AgentName, &mut T)> {
        let values = self.values.iter_mut().map(|value| &mut **value);
        self.names.0.iter().zip(values)
    }
}

impl<T: Default> Named<T> {
    /// What is kept under the name, made first if there is nothing.
    pub fn entry(&mut self, name: &AgentName) -> &mut T {
        let at = self.names.place(name.clone()).unwrap_or_else(|at| {
            insert_at(&mut self.values, at, Box::default());
            at
        });
        &mut self.values[at]
    }
}

/// Not where it is called, so that the linker finds one copy for all types.
#[inline(never)]
fn insert_at<T>(values: &mut Vec<Box<T>>, at: usize, value: Box<T>) {
    values.insert(at, value);
}

impl<T: Field> Field for Named<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn pass(&mut self, json: &mut Json) {
        json.open("");
        for (name, value) in self.names.0.iter().zip(&mut self.values) {
            json.key(name.as_str());
            value.pass(json);
        }
        while let Some(name) = json.next_name() {
            let mut kept = T::blank();
            // A name that no agent can have: nobody misses what is said of it.
            if let Some(name) = AgentName::parse(&name) {
                kept.pass(json);
                self.insert(name, kept);
            }
        }
        json.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{read, write};

    fn name(text: &str) -> AgentName {
        AgentName::parse(text).expect("a name")
    }

    #[test]
    fn everything_is_found_under_its_name_and_nothing_under_another() {
        let mut named = Named::default();
        for (value, text) in [(0_u32, "m"), (1, "b"), (2, "z"), (3, "a"), (4, "m")] {
            named.insert(name(text), value);
        }
        assert_eq!(write(&mut named), r#"{"a":3,"b":1,"m":4,"z":2}"#);
        assert_eq!(named.get(&name("m")), Some(&4));
        assert_eq!(named.get(&name("c")), None);
        assert_eq!(named.remove(&name("b")).as_deref(), Some(&1));
        assert_eq!(named.remove(&name("b")), None);
        *named.entry(&name("c")) += 7;
        named.retain(|name, _| name.as_str() != "z");
        assert_eq!(write(&mut named), r#"{"a":3,"c":7,"m":4}"#);
    }

    #[test]
    fn what_is_written_is_read_back_and_a_name_that_none_can_have_is_passed_over() {
        let text = r#"{"z":1,"../x":{"deep":[2]},"a":3}"#;
        let mut named: Named<u32> = read(text).expect("a map");
        assert_eq!(write(&mut named), r#"{"a":3,"z":1}"#);
        assert_eq!(read::<Named<u32>>(r#"{"a":"x"}"#), None);
    }
}
