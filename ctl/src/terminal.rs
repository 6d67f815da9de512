//! The terminal as a full-screen command has it: each key at once, a screen of its own, put back at the end.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use std::{
    io::{self, Read, Stdin, Write},
    time::Duration,
};

/// The other screen, without its cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

pub struct Terminal {
    before: Termios,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Tab,
    Backspace,
    Escape,
    /// Ctrl-C, or the terminal has gone.
    Interrupt,
}

impl Terminal {
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Self { before };
        write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size(&self) -> io::Result<(usize, usize)> {
        let size = tcgetwinsize(io::stdout())?;
        Ok((size.ws_col.max(1).into(), size.ws_row.max(1).into()))
    }

    /// Lines of no more than the terminal's columns.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut screen = String::from("\x1b[H");
        for (row, line) in lines.iter().enumerate() {
            screen.push_str(if row == 0 { "" } else { "\r\n" });
            screen.push_str(line);
            screen.push_str("\x1b[0m\x1b[K");
        }
        screen.push_str("\x1b[J");
        write(&screen)
    }

    /// The keys that come within this time: it returns with the first of them, or with a signal.
    pub fn keys(&self, within: Duration) -> io::Result<Vec<Key>> {
        let mut stdin = io::stdin();
        if !is_ready(&stdin, within)? {
            return Ok(Vec::new());
        }
        let mut bytes = [0; 256];
        match stdin.read(&mut bytes)? {
            0 => Ok(vec![Key::Interrupt]),
            count => Ok(keys(&bytes[..count])),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn is_ready(stdin: &Stdin, within: Duration) -> io::Result<bool> {
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stdin, PollFlags::IN)], Some(&within)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// As xterm and its like send them; a sequence that is none of ours is left out.
fn keys(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = &*text;
    let mut keys = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[").or(rest.strip_prefix("\x1bO")) {
            let end = sequence.find(|c: char| ('@'..='~').contains(&c)).map_or(sequence.len(), |end| end + 1);
            keys.extend(match &sequence[..end] {
                "A" => Some(Key::Up),
                "B" => Some(Key::Down),
                "5~" => Some(Key::PageUp),
                "6~" => Some(Key::PageDown),
                _ => None,
            });
            rest = &sequence[end..];
            continue;
        }
        keys.extend(match first {
            '\x1b' => Some(Key::Escape),
            '\r' | '\n' => Some(Key::Enter),
            '\t' => Some(Key::Tab),
            '\x7f' | '\x08' => Some(Key::Backspace),
            '\x03' | '\x04' => Some(Key::Interrupt),
            c if c.is_control() => None,
            c => Some(Key::Char(c)),
        });
        rest = &rest[first.len_utf8()..];
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_alone_and_in_crowds() {
        assert_eq!(keys(b"k\x1b[A\x1bOB\x1b[6~\r"), [Key::Char('k'), Key::Up, Key::Down, Key::PageDown, Key::Enter]);
        assert_eq!(keys("é\x1b".as_bytes()), [Key::Char('é'), Key::Escape]);
        assert_eq!(keys(b"\x1b[1;5C\x7f\x03"), [Key::Backspace, Key::Interrupt]);
    }
}
