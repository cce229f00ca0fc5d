//! Takes settings out of a tree by name, remembers what was asked for and what was wrong, and at the end
//! complains of what nobody asked for. All that is wrong is told at once, not one thing a run.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::ConfigError;
use super::tree::{Node, Origin, Value};

/// Everything wrong that was found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<ConfigError>>);

impl Problems {
    /// Adds one.
    pub(super) fn push(&self, origin: &Origin, key: impl Into<String>, problem: impl Into<String>) {
        let error = ConfigError { origin: origin.clone(), key: key.into(), problem: problem.into() };
        self.0.borrow_mut().push(error);
    }

    /// All of them.
    pub(super) fn into_inner(self) -> Vec<ConfigError> {
        self.0.into_inner()
    }
}

/// One table of the tree.
pub(super) struct Section<'a> {
    problems: &'a Problems,
    path: String,
    origin: Origin,
    table: BTreeMap<String, Node>,
    /// The keys that were asked for, and where those that were given stood.
    known: BTreeMap<&'static str, Option<Origin>>,
}

impl<'a> Section<'a> {
    /// Opens `node`, which stands at `path`; what is no table is complained of and read as an empty one.
    pub(super) fn open(problems: &'a Problems, path: String, node: Node) -> Self {
        let table = match node.value {
            Value::Table(table) => table,
            _ => {
                problems.push(&node.origin, &path, "is a table; write its keys below a header or between braces");
                BTreeMap::new()
            }
        };
        Self { problems, path, origin: node.origin, table, known: BTreeMap::new() }
    }

    /// The full name of a key of this table.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        let node = self.table.remove(key);
        self.known.insert(key, node.as_ref().map(|node| node.origin.clone()));
        node
    }

    /// The table below `key`; an empty one where there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let empty = Node { origin: self.origin.clone(), value: Value::Table(BTreeMap::new()) };
        let node = self.take(key).unwrap_or(empty);
        Section::open(self.problems, self.name(key), node)
    }

    /// All tables below this one, by name: for tables whose keys the operator chooses.
    pub(super) fn named_sections(&mut self) -> Vec<(String, Section<'a>)> {
        let nodes = std::mem::take(&mut self.table);
        nodes
            .into_iter()
            .map(|(key, node)| (key.clone(), Section::open(self.problems, self.name(&key), node)))
            .collect()
    }

    /// The tables of the array `key`.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let name = self.name(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Node { value: Value::List(items), .. }) => {
                let open = |(i, item)| Section::open(self.problems, format!("{name}[{i}]"), item);
                items.into_iter().enumerate().map(open).collect()
            }
            Some(node) => {
                self.problems.push(&node.origin, name, "is a list of tables");
                Vec::new()
            }
        }
    }

    /// The value of `key` as `read` understands its text; none where it is not given or not understood.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.optional_with_origin(key, read).map(|(value, _)| value)
    }

    /// The same, with where it was said.
    pub(super) fn optional_with_origin<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<(T, Origin)> {
        let node = self.take(key)?;
        let result = match &node.value {
            Value::Scalar(text) => read(text),
            _ => Err("is a single value".to_owned()),
        };
        match result {
            Ok(value) => Some((value, node.origin)),
            Err(problem) => {
                self.problems.push(&node.origin, self.name(key), problem);
                None
            }
        }
    }

    /// The value of `key`, which must be there. `otherwise` goes on in its place where it is not, or is wrong;
    /// the whole is refused then anyway.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        otherwise: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        if !self.table.contains_key(key) {
            self.known.insert(key, None);
            self.complain(key, "is missing");
            return otherwise;
        }
        self.optional(key, read).unwrap_or(otherwise)
    }

    /// Gives `read` each text of the array `key`; of one text (the environment knows no arrays), what is between its commas.
    pub(super) fn texts<E: ToString>(&mut self, key: &'static str, mut read: impl FnMut(&str) -> Result<(), E>) {
        let name = self.name(key);
        let Some(node) = self.take(key) else { return };
        let items = match node.value {
            Value::List(items) => items,
            Value::Scalar(text) => {
                let item = |text: &str| Node { origin: node.origin.clone(), value: Value::Scalar(text.trim().to_owned()) };
                text.split(',').map(item).filter(|item| item.value != Value::Scalar(String::new())).collect()
            }
            Value::Table(_) => return self.problems.push(&node.origin, name, "is a list of texts"),
        };
        for item in items {
            let result = match &item.value {
                Value::Scalar(text) => read(text).map_err(|problem| problem.to_string()),
                _ => Err("is a list of texts".to_owned()),
            };
            if let Err(problem) = result {
                self.problems.push(&item.origin, &name, problem);
            }
        }
    }

    /// Something is wrong with `key` in the light of other keys.
    pub(super) fn complain(&self, key: &str, problem: impl Into<String>) {
        let origin = self.known.get(key).and_then(Option::as_ref).unwrap_or(&self.origin);
        self.problems.push(origin, self.name(key), problem);
    }

    /// What is left in the table is unknown.
    pub(super) fn close(self) {
        let known: Vec<_> = self.known.keys().copied().collect();
        for (key, node) in self.table.iter().filter(|(_, node)| node.origin != Origin::Shipped) {
            let problem = format!("unknown key `{key}`{}", nearest(key, &known));
            self.problems.push(&node.origin, self.name(key), problem);
        }
    }
}

/// `; did you mean …?`, or the list of what is valid where nothing is near.
pub(super) fn nearest(word: &str, valid: &[&str]) -> String {
    let near = |candidate: &str| strsim::normalized_damerau_levenshtein(word, candidate);
    match valid.iter().max_by(|a, b| near(a).total_cmp(&near(b))) {
        Some(best) if near(best) > 0.5 => format!("; did you mean `{best}`?"),
        Some(_) => format!("; valid here: {}", valid.join(", ")),
        None => String::new(),
    }
}
