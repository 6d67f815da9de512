//! The check of a whole tree against the table: unknown names end the start, the rest is remarked upon.

use super::{
    Env,
    directives::{self, Kind, Row, Section, Status, dotted},
    grammar::{Directive, Place},
};

#[derive(Debug, thiserror::Error)]
pub enum Illegal {
    #[error("{file}: conf is empty")]
    Nothing { file: String },
    #[error("{place}: illegal directive {name}")]
    Name { place: Place, name: String },
    #[error("{place}: illegal {name}")]
    NameIn { place: Place, name: String },
    #[error("{place}: illegal {name} of {vhost}")]
    NameOf { place: Place, name: String, vhost: String },
    #[error("{place}: {name} is a block, expecting {{ }}")]
    NotABlock { place: Place, name: String },
    #[error("{place}: {name} is not a block, expecting ;")]
    ABlock { place: Place, name: String },
    #[error("{place}: a vhost needs a name")]
    Nameless { place: Place },
    #[error("{place}: {vhost} has more than one http_remux")]
    SecondRemux { place: Place, vhost: String },
    #[error("{file}: daemon and asprocess exclude each other: say `daemon off`, or leave asprocess out")]
    DaemonAsProcess { file: String },
    #[error("{place}: is_full marks a file that only documents; write one with what you need")]
    Full { place: Place },
}

/// What a legal tree and an environment are worth saying about.
#[derive(Default, Debug)]
pub struct Remarks {
    /// Dotted names of directives that are there and do nothing yet, each once.
    pub accepted: Vec<String>,
    pub warnings: Vec<String>,
}

/// Checks the names of a tree. `file` is for the error about an empty one.
pub fn check(file: &str, tree: &[Directive], env: &Env, remarks: &mut Remarks) -> Result<(), Illegal> {
    if tree.is_empty() {
        return Err(Illegal::Nothing { file: file.into() });
    }
    if let Some(root) = directives::find("") {
        block(root, tree, None, remarks)?;
    }
    for (section, row) in directives::all() {
        let name = dotted(section.path, row.name);
        for (variable, value) in row.env_names(section).iter().filter_map(|v| Some((v, env.value(v)?))) {
            match row.status {
                Status::Accepted => remarks.accept(name.clone()),
                Status::Fixed => remarks.fixed(row, &name, value, &Place::Env(variable.clone())),
                Status::Acts | Status::Gone => {}
            }
        }
    }
    Ok(())
}

fn block(section: &Section, tree: &[Directive], vhost: Option<&str>, remarks: &mut Remarks) -> Result<(), Illegal> {
    for (n, directive) in tree.iter().enumerate() {
        let place = &directive.place;
        let name = dotted(section.path, &directive.name);
        let Some(row) = section.row(&directive.name) else {
            if section.checked {
                return Err(unknown(place.clone(), name, vhost));
            }
            remarks.warnings.push(format!("{place}: {name} is unknown and ignored"));
            continue;
        };
        if name == "vhost.http_remux" && tree.iter().take(n).any(|d| d.name == directive.name) {
            return Err(Illegal::SecondRemux { place: place.clone(), vhost: vhost.unwrap_or_default().into() });
        }
        if name == "is_full" && directive.args.first().is_some_and(|word| word == "on") {
            return Err(Illegal::Full { place: place.clone() });
        }
        match (row.kind, &directive.children) {
            (Kind::Block, Some(children)) => {
                let inner = match name.as_str() {
                    "vhost" => match directive.args.first() {
                        Some(vhost) => Some(vhost.as_str()),
                        None => return Err(Illegal::Nameless { place: place.clone() }),
                    },
                    _ => vhost,
                };
                if let Some(section) = directives::find(&name) {
                    block(section, children, inner, remarks)?;
                }
            }
            (Kind::Block, None) => return Err(Illegal::NotABlock { place: place.clone(), name }),
            (Kind::Free, _) => remarks.accept(name.clone()),
            (_, Some(_)) => return Err(Illegal::ABlock { place: place.clone(), name }),
            (_, None) => {
                match row.status {
                    // Nobody asks for what is off.
                    Status::Accepted if row.kind == Kind::Bool && directive.args == ["off"] => {}
                    Status::Accepted => remarks.accept(name.clone()),
                    Status::Acts => remarks.odd(row, directive, &name),
                    Status::Gone => remarks.warnings.push(format!("{place}: {name} has no effect, as in SRS")),
                    Status::Fixed => {
                        if let Some(word) = directive.args.first() {
                            remarks.fixed(row, &name, word, place);
                        }
                    }
                };
            }
        }
        if !row.many && tree.iter().take(n).any(|d| d.name == directive.name) {
            remarks.warnings.push(format!("{place}: {name} again, the first one counts"));
        }
    }
    Ok(())
}

fn unknown(place: Place, name: String, vhost: Option<&str>) -> Illegal {
    match vhost {
        Some(vhost) => Illegal::NameOf { place, name, vhost: vhost.into() },
        None if name.contains('.') => Illegal::NameIn { place, name },
        None => Illegal::Name { place, name },
    }
}

impl Remarks {
    fn accept(&mut self, name: String) {
        if !self.accepted.contains(&name) {
            self.accepted.push(name);
        }
    }

    fn fixed(&mut self, row: &Row, name: &str, word: &str, place: &Place) {
        if !row.is_default(word) {
            self.warnings.push(format!("{place}: {name} {word}: not supported, it is always {}", row.default));
        }
    }

    /// Arguments that SRS reads in a way their author may not expect.
    fn odd(&mut self, row: &Row, Directive { args, place, .. }: &Directive, name: &str) {
        let is_flag = matches!(row.kind, Kind::Bool | Kind::BoolOn);
        if let Some(word) = args.first().filter(|word| is_flag && *word != "on" && *word != "off") {
            let meant = if row.kind == Kind::BoolOn { "on" } else { "off" };
            self.warnings.push(format!("{place}: {name} {word}: neither on nor off, taken as {meant}"));
        }
        if args.len() > 1 && !matches!(row.kind, Kind::List | Kind::Rule | Kind::Endpoints) {
            self.warnings.push(format!("{place}: {name} takes one argument, the rest is ignored"));
        }
    }
}
