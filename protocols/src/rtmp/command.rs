//! Commands (RTMP 1.0 §7.1.1, §7.2): a name, a transaction number, a command object and arguments in
//! AMF0; and the status objects that answer them.

use crate::{
    amf::{self, AmfError, Value},
    rtmp::message::{Message, kind},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub name: String,
    /// What an answer repeats; 0 if none is wanted.
    pub transaction: f64,
    /// The command object, `Null` in all but connect, then what the command is about.
    pub arguments: Vec<Value>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Amf(#[from] AmfError),
    #[error("command message does not start with a name")]
    Nameless,
}

impl Command {
    pub fn new(name: &str, transaction: f64, arguments: Vec<Value>) -> Self {
        Self { name: name.into(), transaction, arguments }
    }

    /// Reads a message of type 20, or 17, which is the same behind one more byte.
    pub fn read(message: &Message) -> Result<Self, CommandError> {
        let mut values = amf::decode_all(amf0_part(message))?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(CommandError::Nameless);
        };
        let transaction = values.next().and_then(|v| v.as_f64()).unwrap_or_default();
        Ok(Self { name, transaction, arguments: values.collect() })
    }

    /// The string argument at `index`; the command object is 0.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Value::from(self.name.as_str()).encode(&mut out);
        Value::Number(self.transaction).encode(&mut out);
        self.arguments.iter().for_each(|value| value.encode(&mut out));
        out
    }
}

/// The payload of a command or data message without the byte that the AMF3 types start with.
pub fn amf0_part(message: &Message) -> &[u8] {
    match (message.kind, &*message.payload) {
        (kind::COMMAND_AMF3 | kind::DATA_AMF3, [0, rest @ ..]) => rest,
        (_, all) => all,
    }
}

/// What an onStatus says (RTMP 1.0 §7.2.2).
pub fn status(level: &str, code: &str, description: &str) -> Vec<(String, Value)> {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

pub fn object<const N: usize>(members: [(&str, Value); N]) -> Vec<(String, Value)> {
    members.map(|(name, value)| (name.to_owned(), value)).into()
}
