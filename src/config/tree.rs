//! Settings as a tree whose every node knows where it was said: in the shipped defaults,
//! on a line of the operator's file, or in an environment variable.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::ConfigError;

/// Where a setting was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In `config/headwater.toml` as it is shipped.
    Shipped,
    /// On this line of the operator's file, counted from 1.
    Line(usize),
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped => f.write_str("default"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A setting, or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Where it was said.
    pub(super) origin: Origin,
    /// What was said.
    pub(super) value: Value,
}

/// What a node holds. Every scalar is kept as its text: what it means is for the reader of the key to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Text, a number, a truth value.
    Scalar(String),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(BTreeMap<String, Node>),
}

impl Node {
    /// Parses TOML; `origin` tells a line's number as the origin of what stands there.
    pub(super) fn parse(text: &str, origin: fn(usize) -> Origin) -> Result<Self, ConfigError> {
        let lines = Lines { text, origin };
        let root = DeTable::parse(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            ConfigError { origin: lines.at(start), key: String::new(), problem: error.message().to_owned() }
        })?;
        Ok(lines.table(root.span().start, root.get_ref()))
    }

    /// Lays `other` over this: its scalars and arrays replace, its tables are merged.
    pub(super) fn overlay(&mut self, other: Self) {
        match (&mut self.value, other.value) {
            (Value::Table(mine), Value::Table(theirs)) => {
                self.origin = other.origin;
                for (key, node) in theirs {
                    match mine.get_mut(&key) {
                        Some(existing) => existing.overlay(node),
                        None => drop(mine.insert(key, node)),
                    }
                }
            }
            (mine, theirs) => {
                *mine = theirs;
                self.origin = other.origin;
            }
        }
    }

    /// Sets the scalar that `path` leads to, making tables on the way; a number steps into an array.
    pub(super) fn set(&mut self, path: &[String], origin: &Origin, text: &str) -> Result<(), ConfigError> {
        let Some((step, rest)) = path.split_first() else {
            self.origin = origin.clone();
            self.value = Value::Scalar(text.to_owned());
            return Ok(());
        };
        match &mut self.value {
            Value::Table(table) => {
                let empty = || Self { origin: origin.clone(), value: Value::Table(BTreeMap::new()) };
                table.entry(step.clone()).or_insert_with(empty).set(rest, origin, text)
            }
            Value::List(list) => {
                let length = list.len();
                let item = step.parse().ok().and_then(|index: usize| list.get_mut(index));
                let problem = format!("`{step}` is not an index of an array of {length}, counted from 0");
                let error = || ConfigError { origin: origin.clone(), key: path.join("."), problem };
                item.ok_or_else(error)?.set(rest, origin, text)
            }
            Value::Scalar(_) => {
                let problem = format!("`{step}` lies below a setting that has no parts");
                Err(ConfigError { origin: origin.clone(), key: path.join("."), problem })
            }
        }
    }
}

/// Turns positions in a text into origins.
struct Lines<'a> {
    text: &'a str,
    origin: fn(usize) -> Origin,
}

impl Lines<'_> {
    fn at(&self, byte: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(byte);
        (self.origin)(1 + before.filter(|b| **b == b'\n').count())
    }

    fn table(&self, start: usize, table: &DeTable<'_>) -> Node {
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            (key.get_ref().to_string(), self.node(key.span().start, value.get_ref()))
        };
        Node { origin: self.at(start), value: Value::Table(table.iter().map(entry).collect()) }
    }

    fn node(&self, start: usize, value: &DeValue<'_>) -> Node {
        let scalar = |text: &str| Node { origin: self.at(start), value: Value::Scalar(text.to_owned()) };
        match value {
            DeValue::Table(table) => self.table(start, table),
            DeValue::Array(array) => Node {
                origin: self.at(start),
                value: Value::List(array.iter().map(|item| self.node(item.span().start, item.get_ref())).collect()),
            },
            DeValue::String(text) => scalar(text),
            DeValue::Integer(number) => scalar(number.as_str()),
            DeValue::Float(number) => scalar(number.as_str()),
            DeValue::Boolean(truth) => scalar(if *truth { "true" } else { "false" }),
            DeValue::Datetime(time) => scalar(&time.to_string()),
        }
    }
}
