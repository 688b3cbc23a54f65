//! What is kept for each agent, sorted by name. A `BTreeMap` costs 6 to 10 KB for each type that it holds, a sorted
//! list a few hundred bytes; a host has tens of agents, not millions.

use std::mem;

use crate::fields::{Field, object};
use crate::json::{Object, Value};
use crate::model::AgentName;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named<T>(Vec<(AgentName, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    fn find(&self, name: &AgentName) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(name))
    }

    pub fn get(&self, name: &AgentName) -> Option<&T> {
        let at = self.find(name).ok()?;
        Some(&self.0[at].1)
    }

    pub fn get_mut(&mut self, name: &AgentName) -> Option<&mut T> {
        let at = self.find(name).ok()?;
        Some(&mut self.0[at].1)
    }

    pub fn insert(&mut self, name: AgentName, value: T) -> Option<T> {
        match self.find(&name) {
            Ok(at) => Some(mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (name, value));
                None
            }
        }
    }

    pub fn remove(&mut self, name: &AgentName) -> Option<T> {
        let at = self.find(name).ok()?;
        Some(self.0.remove(at).1)
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&AgentName, &T) -> bool) {
        self.0.retain(|(name, value)| stays(name, value));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&AgentName, &mut T)> {
        self.0.iter_mut().map(|(name, value)| (&*name, value))
    }
}

impl<T: Default> Named<T> {
    /// What is kept under the name, made first if there is nothing.
    pub fn entry(&mut self, name: &AgentName) -> &mut T {
        let at = self.find(name).unwrap_or_else(|at| {
            self.0.insert(at, (name.clone(), T::default()));
            at
        });
        &mut self.0[at].1
    }
}

impl<T: Field> Field for Named<T> {
    fn to_value(&self) -> Value {
        let mut object = Object::default();
        for (name, value) in &self.0 {
            object.put(name.as_str(), value.to_value());
        }
        Value::Object(object)
    }

    fn take(value: Value, spoiled: &mut bool) -> Self {
        let mut named = Self::default();
        for (name, value) in object(value, spoiled).into_pairs() {
            // A name that no agent can have: nobody misses what is said of it.
            if let Some(name) = AgentName::parse(&name) {
                named.insert(name, T::take(value, spoiled));
            }
        }
        named
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
