//! What differs between two configurations, directive by directive, and which of it a running server takes over.

use super::{
    Config, Env,
    directives::{self, Status, dotted},
    grammar::Directive,
};
use std::{collections::BTreeMap, fmt};

/// One directive that stands otherwise in a newer file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Dotted.
    pub name: String,
    pub vhost: Option<String>,
    pub was: Option<String>,
    pub is: Option<String>,
    pub effect: Effect,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// At once, or for those who come.
    Now,
    AtStart,
    /// A variable of the environment says otherwise.
    Overruled,
    /// This version does not act on it.
    None,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(vhost) = &self.vhost {
            match &*self.name {
                "vhost" => write!(f, " {vhost}")?,
                _ => write!(f, " of {vhost}")?,
            }
        }
        match (&self.was, &self.is) {
            (None, Some(_)) if self.name == "vhost" => f.write_str(": new")?,
            (_, None) if self.name == "vhost" => f.write_str(": gone")?,
            (Some(was), Some(is)) => write!(f, ": {is}, was {was}")?,
            (None, Some(is)) => write!(f, ": {is}, was not there")?,
            (was, None) => write!(f, ": gone, was {}", was.as_deref().unwrap_or_default())?,
        }
        f.write_str(match self.effect {
            Effect::Now => "",
            Effect::AtStart => "; this needs a restart",
            Effect::Overruled => "; the environment says otherwise and wins",
            Effect::None => "; accepted, not supported yet",
        })
    }
}

/// By vhost and dotted name; what stands several times is put together.
type Flat = BTreeMap<(Option<String>, String), String>;

impl Config {
    /// How `newer` differs from this one.
    pub fn differences(&self, newer: &Self, env: &Env) -> Vec<Difference> {
        let (was, is) = (flat(&self.tree), flat(&newer.tree));
        let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(name)));
        let changed = names.filter(|name| was.get(name) != is.get(name));
        // A vhost that is new or gone is one difference, whatever is in it.
        let whole = |vhost: &String| {
            let key = (Some(vhost.clone()), "vhost".to_owned());
            was.contains_key(&key) != is.contains_key(&key)
        };
        let told = changed.filter(|(vhost, name)| name == "vhost" || !vhost.as_ref().is_some_and(whole));
        let difference = |key: &(Option<String>, String)| Difference {
            vhost: key.0.clone(),
            name: key.1.clone(),
            was: was.get(key).cloned(),
            is: is.get(key).cloned(),
            effect: effect(&key.1, env),
        };
        told.map(difference).collect()
    }

    /// Leaves what is read once as it was in `running`.
    pub fn keep_of(&mut self, running: &Self) {
        let (wanted, process) = (self.process.clone(), running.process.clone());
        self.process = super::Process {
            grace_start_wait: wanted.grace_start_wait,
            grace_sessions_wait: wanted.grace_sessions_wait,
            grace_final_wait: wanted.grace_final_wait,
            force_grace_quit: wanted.force_grace_quit,
            ..process
        };
        self.shards = running.shards;
        self.log = running.log.clone();
        self.srt_server = running.srt_server.clone();
        self.rtc_server.enabled = running.rtc_server.enabled;
        self.rtc_server.listen = running.rtc_server.listen.clone();
    }
}

fn flat(tree: &[Directive]) -> Flat {
    let mut flat = Flat::new();
    flatten(tree, "", None, &mut flat);
    flat
}

fn flatten(tree: &[Directive], path: &str, vhost: Option<&String>, flat: &mut Flat) {
    for directive in tree {
        let name = dotted(path, &directive.name);
        let vhost = if name == "vhost" { directive.args.first() } else { vhost };
        if directive.children.is_none() || name == "vhost" {
            let words = if name == "vhost" { "there".into() } else { directive.args.join(" ") };
            let place = flat.entry((vhost.cloned(), name.clone())).or_default();
            if !place.is_empty() {
                place.push_str(", ");
            }
            place.push_str(&words);
        }
        flatten(directive.children.as_deref().unwrap_or_default(), &name, vhost, flat);
    }
}

fn effect(name: &str, env: &Env) -> Effect {
    let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
    let row = directives::find(path).and_then(|section| Some((section, section.row(last)?)));
    let Some((section, row)) = row else { return Effect::None };
    if row.env_names(section).iter().any(|variable| env.value(variable).is_some()) {
        return Effect::Overruled;
    }
    match row.status {
        _ if directives::is_at_start(name) => Effect::AtStart,
        Status::Acts => Effect::Now,
        Status::Accepted | Status::Fixed | Status::Gone => Effect::None,
    }
}
