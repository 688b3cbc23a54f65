//! What is kept for each agent, sorted by name. A `BTreeMap` costs 6 to 10 KB for each type that it holds, a sorted
//! list a few hundred bytes; a host has tens of agents, not millions.

use crate::fields::Field;
use crate::json::{Object, Value};
use crate::model::AgentName;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named<T> {
    /// Sorted; the value of each stands at its place.
    names: Names,
    values: Vec<T>,
}

/// Apart from the values, so that all types share the search.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
        self.values.get(self.names.find(name).ok()?)
    }

    pub fn get_mut(&mut self, name: &AgentName) -> Option<&mut T> {
        self.values.get_mut(self.names.find(name).ok()?)
    }

    /// Tells whether the name is new.
    pub fn insert(&mut self, name: AgentName, value: T) -> bool {
        match self.names.place(name) {
            Ok(at) => self.values[at] = value,
            Err(at) => {
                self.values.insert(at, value);
                return true;
            }
        }
        false
    }

    pub fn remove(&mut self, name: &AgentName) -> Option<T> {
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

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&AgentName, &mut T)> {
        self.names.0.iter().zip(&mut self.values)
    }
}

impl<T: Default> Named<T> {
    /// What is kept under the name, made first if there is nothing.
    pub fn entry(&mut self, name: &AgentName) -> &mut T {
        let at = self.names.place(name.clone()).unwrap_or_else(|at| {
            self.values.insert(at, T::default());
            at
        });
        &mut self.values[at]
    }
}

impl<T: Field> Field for Named<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill(&mut self, value: Value) -> bool {
        let Value::Object(object) = value else {
            return false;
        };
        object.into_pairs().into_iter().all(|(name, value)| {
            // A name that no agent can have: nobody misses what is said of it.
            let Some(name) = AgentName::parse(&name) else {
                return true;
            };
            let mut kept = T::blank();
            let is_filled = kept.fill(value);
            self.insert(name, kept);
            is_filled
        })
    }

    fn to_value(&self) -> Value {
        let mut object = Object::default();
        for (name, value) in self.names.0.iter().zip(&self.values) {
            object.put(name.as_str(), value.to_value());
        }
        Value::Object(object)
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
        assert_eq!(write(&named), r#"{"a":3,"b":1,"m":4,"z":2}"#);
        assert_eq!(named.get(&name("m")), Some(&4));
        assert_eq!(named.get(&name("c")), None);
        assert_eq!(named.remove(&name("b")), Some(1));
        assert_eq!(named.remove(&name("b")), None);
        *named.entry(&name("c")) += 7;
        named.retain(|name, _| name.as_str() != "z");
        assert_eq!(write(&named), r#"{"a":3,"c":7,"m":4}"#);
    }

    #[test]
    fn what_is_written_is_read_back_and_a_name_that_none_can_have_is_passed_over() {
        let text = r#"{"z":1,"../x":{"deep":[2]},"a":3}"#;
        let named: Named<u32> = read(text).expect("a map");
        assert_eq!(write(&named), r#"{"a":3,"z":1}"#);
        assert_eq!(read::<Named<u32>>(r#"{"a":"x"}"#), None);
    }
}
