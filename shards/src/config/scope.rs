//! Typed reading of one block: the environment first, then the file, then the default of the table.

use super::{
    Env, Listen,
    directives::{self, Kind, Row, Section, dotted},
    grammar::{Directive, Place},
};

/// Endpoints of one directive.
const LISTENS_MAX: usize = 64;

/// A block of the file, present or not.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    section: &'static Section,
    directives: &'a [Directive],
    env: &'a Env,
}

#[derive(Debug, thiserror::Error)]
#[error("{place}: {name} {value}: expecting {expected}")]
pub struct BadValue {
    pub place: Place,
    pub name: String,
    pub value: String,
    pub expected: String,
}

/// The arguments that count for a directive, never none.
pub struct Value {
    pub words: Vec<String>,
    pub place: Place,
}

impl<'a> Scope<'a> {
    pub fn root(directives: &'a [Directive], env: &'a Env) -> Self {
        Self { section: section(""), directives, env }
    }

    /// The first block `name`, or an empty one.
    pub fn block(&self, name: &str) -> Self {
        self.blocks(name).next().map_or(Self { directives: &[], ..self.inner(name) }, |(_, scope)| scope)
    }

    /// Every block `name` with its first argument.
    pub fn blocks(&self, name: &str) -> impl Iterator<Item = (&'a Directive, Self)> {
        let inner = self.inner(name);
        let found = self.directives.iter().filter(move |d| d.name == name);
        found.map(move |d| (d, Self { directives: d.children.as_deref().unwrap_or_default(), ..inner }))
    }

    /// What the environment or the file says; an argument list without words says nothing.
    pub fn given(&self, name: &str) -> Option<Value> {
        for variable in self.row(name).env_names(self.section) {
            let words = self.env.value(&variable).map(|value| value.split(' ').filter(|word| !word.is_empty()));
            let words = words.into_iter().flatten().map(String::from).collect::<Vec<_>>();
            if !words.is_empty() {
                return Some(Value { words, place: Place::Env(variable) });
            }
        }
        let directive = self.directives.iter().find(|d| d.name == name)?;
        let value = Value { words: directive.args.clone(), place: directive.place.clone() };
        (!value.words.is_empty()).then_some(value)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.row(name).is_on(&self.word(name))
    }

    /// The first word, else the default.
    pub fn word(&self, name: &str) -> String {
        let given = self.given(name).and_then(|value| value.words.into_iter().next());
        given.unwrap_or_else(|| self.row(name).default.into())
    }

    /// Of a directive that may repeat: what the environment says, else the first word of each; the default without.
    pub fn every(&self, name: &str) -> Vec<String> {
        match self.given(name) {
            None => vec![self.row(name).default.into()],
            Some(Value { words, place: Place::Env(_) }) => words,
            Some(_) => {
                let all = self.directives.iter().filter(|d| d.name == name);
                all.filter_map(|d| d.args.first().cloned()).collect()
            }
        }
    }

    /// The first word, or what the variable `X` says where the word is `$X`; the default where that says nothing.
    pub fn indirect(&self, name: &str) -> String {
        let word = self.word(name);
        match word.strip_prefix('$') {
            Some(variable) => self.env.value(variable).unwrap_or(self.default(name)).into(),
            None => word,
        }
    }

    /// A number from the range of the table; `None` if it is not given and has no default.
    pub fn number(&self, name: &str) -> Result<Option<u64>, BadValue> {
        let row = self.row(name);
        let Some(value) = self.given(name) else { return Ok(row.default.parse().ok()) };
        let Kind::Number(min, max, _) = row.kind else { unreachable!("{name} is no number in the table") };
        let number = value.words.first().and_then(|word| word.parse().ok());
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(name, &value, row.kind.to_string())),
        }
    }

    /// A number of zero to a billion, with a fraction or without; the default of the table is one.
    pub fn decimal(&self, name: &str) -> Result<f64, BadValue> {
        let row = self.row(name);
        let Some(value) = self.given(name) else { return Ok(row.default.parse().unwrap_or_default()) };
        let number = value.words.first().and_then(|word| word.parse().ok());
        number.filter(|number| (0.0..=1e9).contains(number)).ok_or_else(|| self.bad(name, &value, row.kind.to_string()))
    }

    /// A word that has to be there and to be `good`.
    pub fn needed(&self, name: &str, good: impl Fn(&str) -> bool, expected: &str) -> Result<String, BadValue> {
        match self.given(name) {
            Some(value) if good(&value.words[0]) => Ok(value.words[0].clone()),
            Some(value) => Err(self.bad(name, &value, expected.into())),
            None => {
                let variable = self.row(name).env_names(self.section).into_iter().next().unwrap_or_default();
                let nothing = Value { words: vec!["is not set".into()], place: Place::Env(variable) };
                Err(self.bad(name, &nothing, expected.into()))
            }
        }
    }

    /// Dotted.
    pub fn path(&self) -> &'static str {
        self.section.path
    }

    /// What the table says.
    pub fn default(&self, name: &str) -> &'static str {
        self.row(name).default
    }

    pub fn listens(&self, name: &str) -> Result<Vec<Listen>, BadValue> {
        let Some(value) = self.given(name) else {
            return Ok(self.row(name).default.split(' ').filter_map(|word| word.parse().ok()).collect());
        };
        if value.words.len() > LISTENS_MAX {
            return Err(self.bad(name, &value, format!("at most {LISTENS_MAX} endpoints")));
        }
        let mut listens = Vec::new();
        for word in &value.words {
            let listen = word.parse().map_err(|_| {
                let wrong = Value { words: vec![word.clone()], place: value.place.clone() };
                self.bad(name, &wrong, "port, ip:port or [ipv6]:port, with a port from 1 to 65535".into())
            })?;
            if !listens.contains(&listen) {
                listens.push(listen);
            }
        }
        Ok(listens)
    }

    /// The first word if `read` knows it.
    pub fn one_of<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, BadValue> {
        let row = self.row(name);
        let Some(value) = self.given(name) else { return Ok(read(row.default)) };
        match value.words.first().and_then(|word| read(word)) {
            Some(known) => Ok(Some(known)),
            None => Err(self.bad(name, &value, row.kind.to_string())),
        }
    }

    /// The words of a list; none where nothing is given.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.given(name).map(|value| value.words).unwrap_or_default()
    }

    /// What `read` makes of each `name` in the block, of the file alone.
    pub fn each<T>(&self, name: &str, read: impl Fn(&[String]) -> Option<T>) -> Result<Vec<T>, BadValue> {
        let row = self.row(name);
        let found = self.directives.iter().filter(|directive| directive.name == name);
        let read = |directive: &Directive| {
            let value = || Value { words: directive.args.clone(), place: directive.place.clone() };
            read(&directive.args).ok_or_else(|| self.bad(name, &value(), row.kind.to_string()))
        };
        found.map(read).collect()
    }

    pub fn bad(&self, name: &str, value: &Value, expected: String) -> BadValue {
        let name = dotted(self.section.path, name);
        BadValue { place: value.place.clone(), name, value: value.words.join(" "), expected }
    }

    fn inner(&self, name: &str) -> Self {
        Self { section: section(&dotted(self.section.path, name)), ..*self }
    }

    /// Names are those of our own code, and any test that loads a file reads them all.
    fn row(&self, name: &str) -> &'static Row {
        self.section.row(name).unwrap_or_else(|| unreachable!("{} has no row {name}", self.section.path))
    }
}

fn section(path: &str) -> &'static Section {
    directives::find(path).unwrap_or_else(|| unreachable!("no section {path} in the table"))
}
