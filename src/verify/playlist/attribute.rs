//! Attribute lists (4.2).

use std::time::Duration;

use super::super::finding::Findings;
use super::super::rule::Rule;
use super::value::{self, ByteRange};

/// The attributes of one tag.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    /// The tag's name, without `#EXT-X-`.
    tag: &'a str,
    line: u32,
    list: Vec<(&'a str, Value<'a>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Quoted(&'a str),
    Bare(&'a str),
}

/// More attributes than any tag has.
const ATTRIBUTES_MAX: usize = 64;

impl<'a> Attributes<'a> {
    /// Reads what stands after the colon. What cannot be read is reported and left out.
    pub(super) fn parse(tag: &'a str, line: u32, text: &'a str, findings: &mut Findings) -> Self {
        let mut attributes = Self { tag, line, list: Vec::new() };
        let mut rest = text;
        while !rest.is_empty() && attributes.list.len() < ATTRIBUTES_MAX {
            rest = attributes.one(rest, findings);
        }
        if !rest.is_empty() {
            findings.add(Rule::Unread, line, format!("{tag} has more than {ATTRIBUTES_MAX} attributes"));
        }
        attributes
    }

    /// Reads one attribute and its comma; gives what is left.
    fn one(&mut self, text: &'a str, findings: &mut Findings) -> &'a str {
        let Some((name, rest)) = text.split_once('=') else {
            findings.add(Rule::AttributeSyntax, self.line, format!("{}: `{text}` has no value", self.tag));
            return "";
        };
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_name) {
            findings.add(Rule::AttributeSyntax, self.line, format!("{}: `{name}` is no attribute's name", self.tag));
        }
        let (value, rest) = self.value(name, rest, findings);
        if self.list.iter().any(|(other, _)| *other == name) {
            findings.add(Rule::AttributeDuplicate, self.line, format!("{}: {name} stands there twice", self.tag));
        } else {
            self.list.push((name.trim(), value));
        }
        rest
    }

    fn value(&self, name: &str, text: &'a str, findings: &mut Findings) -> (Value<'a>, &'a str) {
        let mut complain =
            |what: &str| findings.add(Rule::AttributeSyntax, self.line, format!("{}: {name} {what}", self.tag));
        let Some(quoted) = text.strip_prefix('"') else {
            let (value, rest) = text.split_once(',').unwrap_or((text, ""));
            if value.is_empty() || value.contains(['"', ' ', '\t']) {
                complain(&format!("is `{value}`, which is empty or has spaces or quotes"));
            }
            return (Value::Bare(value), rest);
        };
        let Some((value, rest)) = quoted.split_once('"') else {
            complain("has no closing quote");
            return (Value::Quoted(quoted), "");
        };
        match rest.strip_prefix(',') {
            Some(rest) => (Value::Quoted(value), rest),
            None if rest.is_empty() => (Value::Quoted(value), rest),
            None => {
                complain("goes on after its closing quote");
                (Value::Quoted(value), rest.split_once(',').map_or("", |(_, rest)| rest))
            }
        }
    }

    fn get(&self, name: &str) -> Option<Value<'a>> {
        self.list.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Reports that `name` is not there, if it is not.
    pub(super) fn require(&self, name: &str, findings: &mut Findings) {
        if !self.has(name) {
            findings.add(Rule::AttributeMissing, self.line, format!("{} without {name}", self.tag));
        }
    }

    /// A quoted string.
    pub(super) fn quoted(&self, name: &str, findings: &mut Findings) -> Option<&'a str> {
        match self.get(name)? {
            Value::Quoted(text) => Some(text),
            Value::Bare(text) => {
                self.wrong(name, text, "in quotes", findings);
                Some(text)
            }
        }
    }

    /// What has no quotes: a number, a word.
    pub(super) fn bare(&self, name: &str, findings: &mut Findings) -> Option<&'a str> {
        match self.get(name)? {
            Value::Bare(text) => Some(text),
            Value::Quoted(text) => {
                self.wrong(name, text, "without quotes", findings);
                Some(text)
            }
        }
    }

    pub(super) fn integer(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        self.typed(name, "a decimal integer", value::integer, findings)
    }

    pub(super) fn seconds(&self, name: &str, findings: &mut Findings) -> Option<Duration> {
        self.typed(name, "a number of seconds", value::seconds, findings)
    }

    pub(super) fn resolution(&self, name: &str, findings: &mut Findings) -> Option<(u64, u64)> {
        self.typed(name, "WIDTHxHEIGHT", value::resolution, findings)
    }

    fn typed<T>(&self, name: &str, kind: &str, read: impl Fn(&str) -> Option<T>, findings: &mut Findings) -> Option<T> {
        let text = self.bare(name, findings)?;
        let value = read(text);
        if value.is_none() {
            self.wrong(name, text, kind, findings);
        }
        value
    }

    pub(super) fn byte_range(&self, findings: &mut Findings) -> Option<(u64, Option<u64>)> {
        let text = self.quoted("BYTERANGE", findings)?;
        let value = ByteRange::parse(text);
        if value.is_none() {
            self.wrong("BYTERANGE", text, "LENGTH@OFFSET", findings);
        }
        value
    }

    /// One of a few words. An unknown one is reported, and none.
    pub(super) fn word(&self, name: &str, words: &[&'static str], findings: &mut Findings) -> Option<&'static str> {
        let text = self.bare(name, findings)?;
        let word = words.iter().find(|word| **word == text).copied();
        if word.is_none() {
            self.wrong(name, text, &words.join(" or "), findings);
        }
        word
    }

    /// YES, where only that or its absence is allowed.
    pub(super) fn yes(&self, name: &str, findings: &mut Findings) -> bool {
        self.word(name, &["YES"], findings).is_some()
    }

    fn wrong(&self, name: &str, text: &str, kind: &str, findings: &mut Findings) {
        findings.add(Rule::AttributeValue, self.line, format!("{}: {name} is `{text}` and should be {kind}", self.tag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(&str, Value<'_>)>, Vec<Rule>) {
        let mut findings = Findings::default();
        let list = Attributes::parse("PART", 1, text, &mut findings).list;
        (list, findings.into_iter().map(|finding| finding.rule).collect())
    }

    #[test]
    fn commas_and_equals_signs_may_stand_in_quotes() {
        let (list, rules) = parse(r#"URI="a,b=c?d=e",DURATION=0.5,EMPTY="""#);
        assert_eq!(
            list,
            [("URI", Value::Quoted("a,b=c?d=e")), ("DURATION", Value::Bare("0.5")), ("EMPTY", Value::Quoted(""))]
        );
        assert_eq!(rules, []);
    }

    #[test]
    fn whatever_is_no_list_is_said_so() {
        for text in ["URI", "=1", "uri=1", "A=1, B=2", "A=\"x", "A=\"x\"y,B=1", "A=,B=1", "A=1\"2", "A =1"] {
            assert!(parse(text).1.contains(&Rule::AttributeSyntax), "{text}");
        }
        assert_eq!(parse("A=1,A=2"), (vec![("A", Value::Bare("1"))], vec![Rule::AttributeDuplicate]));
        let long = (0..100).map(|n| format!("A{n}=1,")).collect::<String>();
        assert_eq!(parse(&long).1, [Rule::Unread]);
    }

    #[test]
    fn types_are_held_to() {
        let text = r#"A="1",B=x,C=0.5,D=-1,E=1x2,F=MAYBE"#;
        let mut findings = Findings::default();
        let attributes = Attributes::parse("X", 1, text, &mut findings);
        assert_eq!(attributes.integer("A", &mut findings), Some(1), "said, and read all the same");
        assert_eq!(attributes.integer("B", &mut findings), None);
        assert_eq!(attributes.seconds("C", &mut findings), Some(Duration::from_millis(500)));
        assert_eq!(attributes.seconds("D", &mut findings), None);
        assert_eq!(attributes.resolution("E", &mut findings), Some((1, 2)));
        assert!(!attributes.yes("F", &mut findings));
        attributes.require("G", &mut findings);
        let rules: Vec<Rule> = findings.into_iter().map(|finding| finding.rule).collect();
        let value = Rule::AttributeValue;
        assert_eq!(rules, [value, value, value, value, Rule::AttributeMissing]);
    }
}
