//! `shardctl top`: streams and clients as they are now, by rate and by lag, on a screen of its own.

use crate::{
    clients,
    http::{Error, Server},
    streams,
    table::{
        self, Column,
        Width::{Left, Right},
        number, text,
    },
    terminal::{Key, Terminal},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Lines above and below the table.
const FRAME: usize = 4;
const KEYS: &str = "q quit  Tab streams/clients  r rate  l lag  n name  / filter  Enter its clients  k kick";
const BOLD: &str = "\x1b[1m";
const REVERSE: &str = "\x1b[7m";

/// Streams with the worst lag and all skips of their viewers.
const STREAMS: [Column; 8] = {
    let [stream, clients, received, sent, (picture, _, show_picture), sound] = streams::COLUMNS;
    [
        stream,
        clients,
        received,
        sent,
        ("LAG ms", Right(7), |stream| number(&stream["lag_ms"])),
        ("SKIPS", Right(5), |stream| number(&stream["skips"])),
        (picture, Left(37), show_picture),
        sound,
    ]
};

/// Until somebody quits.
pub fn run(server: &Server, interval: Duration) -> Result<(), Error> {
    let mut look = Look::take(server)?;
    let terminal = Terminal::take().map_err(Error::Terminal)?;
    let mut view = View::default();
    let mut due = Instant::now() + interval;
    loop {
        let size = terminal.size().map_err(Error::Terminal)?;
        terminal.show(&view.screen(&look, &server.address, size)).map_err(Error::Terminal)?;
        for key in terminal.keys(due.saturating_duration_since(Instant::now())).map_err(Error::Terminal)? {
            match view.press(key, &look, size.1) {
                Act::Nothing => {}
                Act::Quit => return Ok(()),
                Act::Kick(id) => {
                    view.word = match clients::kick(server, &id) {
                        Ok(_) => format!("{id} is ended"),
                        Err(error) => error.to_string(),
                    };
                }
            }
        }
        if Instant::now() >= due {
            match Look::take(server) {
                Ok(newer) => look = newer,
                // It may come back; what is shown is old meanwhile, and said to be.
                Err(error) => view.word = error.to_string(),
            }
            due = Instant::now() + interval;
        }
    }
}

/// One look at the server.
#[derive(Default)]
struct Look {
    /// Percent of a core each.
    loads: Vec<f64>,
    publishers: u64,
    viewers: u64,
    /// Kilobits per second.
    received: u64,
    sent: u64,
    streams: Vec<Row>,
    clients: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    /// The URL of its stream.
    url: String,
    /// Whom a kick ends: the client, or the publisher of the stream.
    id: String,
    /// Kilobits per second, both ways.
    rate: u64,
    lag_ms: Option<i64>,
    line: String,
}

impl Look {
    fn take(server: &Server) -> Result<Self, Error> {
        let shards = server.get("/api/v1/shards")?;
        let shards = shards["shards"].as_array().cloned().unwrap_or_default();
        Ok(Self::of(&shards, &server.list("streams")?, &server.list("clients")?))
    }

    fn of(shards: &[Value], streams: &[Value], clients: &[Value]) -> Self {
        let publishers = streams.iter().filter(|stream| stream["publish"]["active"] == true).count() as u64;
        let clients_of_streams: u64 = streams.iter().filter_map(|stream| stream["clients"].as_u64()).sum();
        let rate = |way: &str| streams.iter().filter_map(|stream| stream["kbps"][way].as_u64()).sum();
        // The worst lag and all skips of a stream's viewers.
        let mut delays: HashMap<String, (Option<i64>, u64)> = HashMap::new();
        for client in clients {
            let (lag, skips) = delays.entry(text(&client["url"])).or_default();
            *lag = (*lag).max(client["lag_ms"].as_i64());
            *skips += client["skips"].as_u64().unwrap_or_default();
        }
        Self {
            loads: shards.iter().map(|shard| shard["load"].as_f64().unwrap_or_default() * 100.0).collect(),
            publishers,
            // Those by HLS are on no shard.
            viewers: clients_of_streams.saturating_sub(publishers),
            received: rate("recv_30s"),
            sent: rate("send_30s"),
            streams: streams
                .iter()
                .map(|stream| {
                    let delay = delays.get(&text(&stream["url"])).copied().unwrap_or_default();
                    Row::of_stream(stream, delay)
                })
                .collect(),
            clients: clients.iter().map(Row::of_client).collect(),
        }
    }
}

impl Row {
    fn of_stream(stream: &Value, (lag_ms, skips): (Option<i64>, u64)) -> Self {
        let mut row = stream.clone();
        (row["lag_ms"], row["skips"]) = (lag_ms.into(), skips.into());
        Self {
            url: text(&stream["url"]),
            id: text(&stream["publish"]["cid"]),
            rate: rate(stream),
            lag_ms,
            line: table::line(&STREAMS, &row),
        }
    }

    fn of_client(client: &Value) -> Self {
        Self {
            url: text(&client["url"]),
            id: text(&client["id"]),
            rate: rate(client),
            lag_ms: client["lag_ms"].as_i64(),
            line: table::line(&clients::COLUMNS, client),
        }
    }
}

/// Kilobits per second, both ways.
fn rate(of: &Value) -> u64 {
    ["recv_30s", "send_30s"].iter().filter_map(|way| of["kbps"][way].as_u64()).sum()
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Sort {
    #[default]
    Rate,
    Lag,
    Name,
}

/// What is shown of it, and how.
#[derive(Default)]
struct View {
    clients: bool,
    sort: Sort,
    filter: String,
    /// Keys go to the filter.
    typing: bool,
    selected: usize,
    /// Whom to kick, once that is confirmed.
    kicking: Option<String>,
    /// The last thing that was said.
    word: String,
}

#[derive(PartialEq, Eq, Debug)]
enum Act {
    Nothing,
    Quit,
    Kick(String),
}

impl View {
    fn press(&mut self, key: Key, look: &Look, rows: usize) -> Act {
        if key == Key::Interrupt {
            return Act::Quit;
        }
        self.word.clear();
        if let Some(id) = self.kicking.take() {
            return if key == Key::Char('y') { Act::Kick(id) } else { Act::Nothing };
        }
        if self.typing {
            match key {
                Key::Enter => self.typing = false,
                Key::Escape => (self.typing, self.filter) = (false, String::new()),
                Key::Backspace => drop(self.filter.pop()),
                Key::Char(c) => self.filter.push(c),
                _ => {}
            }
            self.selected = 0;
            return Act::Nothing;
        }
        let page = rows.saturating_sub(FRAME).max(1);
        let list = self.rows(look);
        let last = list.len().saturating_sub(1);
        match key {
            Key::Char('q') => return Act::Quit,
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected = (self.selected + 1).min(last),
            Key::PageUp => self.selected = self.selected.saturating_sub(page),
            Key::PageDown => self.selected = (self.selected + page).min(last),
            Key::Char('r') => self.sort = Sort::Rate,
            Key::Char('l') => self.sort = Sort::Lag,
            Key::Char('n') => self.sort = Sort::Name,
            Key::Char('/') => self.typing = true,
            Key::Escape => (self.filter, self.selected) = (String::new(), 0),
            Key::Tab => (self.clients, self.selected) = (!self.clients, 0),
            Key::Enter if !self.clients => {
                if let Some(row) = list.get(self.selected) {
                    (self.filter, self.clients, self.selected) = (row.url.clone(), true, 0);
                }
            }
            Key::Char('k') => match list.get(self.selected) {
                Some(row) if !row.id.is_empty() => self.kicking = Some(row.id.clone()),
                Some(_) => self.word = "it has no publisher".into(),
                None => {}
            },
            _ => {}
        }
        Act::Nothing
    }

    /// What passes the filter, in order.
    fn rows<'l>(&self, look: &'l Look) -> Vec<&'l Row> {
        let all = if self.clients { &look.clients } else { &look.streams };
        let mut rows: Vec<_> = all.iter().filter(|row| row.line.contains(&self.filter)).collect();
        rows.sort_by(|a, b| {
            let by = match self.sort {
                Sort::Rate => b.rate.cmp(&a.rate),
                Sort::Lag => b.lag_ms.cmp(&a.lag_ms),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            by.then_with(|| (&a.url, &a.id).cmp(&(&b.url, &b.id)))
        });
        rows
    }

    /// As many lines as the terminal has, none longer than it is wide.
    fn screen(&self, look: &Look, server: &str, (columns, height): (usize, usize)) -> Vec<String> {
        let cut = |line: &str| line.chars().take(columns).collect::<String>();
        let loads: Vec<_> = look.loads.iter().map(|load| format!("{load:.0}%")).collect();
        let head = format!(
            "{server}  {} streams, {} publishers, {} viewers  in {} out {} kbit/s  shards {}",
            look.streams.len(),
            look.publishers,
            look.viewers,
            look.received,
            look.sent,
            loads.join(" "),
        );
        let rows = self.rows(look);
        let what = if self.clients { "clients" } else { "streams" };
        let filter = match (&*self.filter, self.typing) {
            ("", false) => String::new(),
            (filter, typing) => format!(", with {filter}{}", if typing { "_" } else { "" }),
        };
        let by = format!("{} {what} by {}{filter}", rows.len(), format!("{:?}", self.sort).to_lowercase());
        let head_of_rows = match self.clients {
            true => table::head(&clients::COLUMNS),
            false => table::head(&STREAMS),
        };
        let mut lines = vec![format!("{BOLD}{}", cut(&head)), cut(&by), format!("{BOLD}{}", cut(&head_of_rows))];
        let room = height.saturating_sub(FRAME).max(1);
        let selected = self.selected.min(rows.len().saturating_sub(1));
        let first = (selected + 1).saturating_sub(room);
        for (index, row) in rows.iter().enumerate().skip(first).take(room) {
            let line = cut(&row.line);
            lines.push(if index == selected { format!("{REVERSE}{line}") } else { line });
        }
        lines.resize(FRAME - 1 + room, String::new());
        lines.push(cut(&match &self.kicking {
            Some(id) => format!("kick {id}? y/n"),
            None if !self.word.is_empty() => self.word.clone(),
            None => KEYS.into(),
        }));
        lines.truncate(height);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look() -> Look {
        let stream = |url: &str, sent: u64, cid: Option<&str>| {
            json!({
                "url": url, "clients": 2, "kbps": {"recv_30s": 1000, "send_30s": sent}, "audio": null, "video": null,
                "publish": {"active": cid.is_some(), "cid": cid},
            })
        };
        let client = |id: &str, url: &str, sent: u64, lag: i64, skips: u64| {
            json!({
                "id": id, "type": "flv-play", "ip": "10.0.0.9", "url": url, "name": "", "alive": 1,
                "kbps": {"recv_30s": 0, "send_30s": sent}, "lag_ms": lag, "skips": skips, "drops": {},
            })
        };
        Look::of(
            &[json!({"load": 0.25}), json!({"load": 0.5})],
            &[stream("/live/a", 2000, Some("aaaaaaaa")), stream("/live/b", 9000, None)],
            &[
                client("11111111", "/live/a", 2000, 40, 0),
                client("22222222", "/live/b", 4000, 900, 2),
                client("33333333", "/live/b", 5000, 70, 1),
            ],
        )
    }

    fn firsts(view: &View) -> Vec<String> {
        let screen = view.screen(&look(), "here:1985", (200, 12));
        assert_eq!(screen.len(), 12);
        let body = &screen[3..11];
        body.iter()
            .filter_map(|line| line.trim_start_matches(REVERSE).split_whitespace().next().map(str::to_owned))
            .collect()
    }

    fn press(view: &mut View, keys: &[Key]) -> Act {
        let act = |_: Act, key: &Key| view.press(*key, &look(), 12);
        keys.iter().fold(Act::Nothing, act)
    }

    #[test]
    fn head_has_the_sums_and_streams_their_viewers_worst() {
        let screen = View::default().screen(&look(), "here:1985", (200, 12));
        let head = "here:1985  2 streams, 1 publishers, 3 viewers  in 2000 out 11000 kbit/s  shards 25% 50%";
        assert_eq!(screen[0].trim_start_matches(BOLD), head);
        let columns: Vec<_> = screen[3].trim_start_matches(REVERSE).split_whitespace().take(6).collect();
        assert_eq!(columns, ["/live/b", "2", "1000", "9000", "900", "3"]);
    }

    #[test]
    fn keys_sort_filter_and_turn_to_clients() {
        let mut view = View::default();
        assert_eq!(firsts(&view), ["/live/b", "/live/a"]);
        press(&mut view, &[Key::Char('n')]);
        assert_eq!(firsts(&view), ["/live/a", "/live/b"]);
        press(&mut view, &[Key::Tab, Key::Char('r')]);
        assert_eq!(firsts(&view), ["33333333", "22222222", "11111111"]);
        press(&mut view, &[Key::Char('l')]);
        assert_eq!(firsts(&view), ["22222222", "33333333", "11111111"]);
        press(&mut view, &[Key::Char('/'), Key::Char('q'), Key::Backspace, Key::Char('/'), Key::Char('l')]);
        press(&mut view, &[Key::Char('i'), Key::Char('v'), Key::Char('e'), Key::Char('/'), Key::Char('a'), Key::Enter]);
        assert_eq!(firsts(&view), ["11111111"]);
        press(&mut view, &[Key::Escape, Key::Tab, Key::Char('r'), Key::Enter]);
        assert_eq!(firsts(&view), ["33333333", "22222222"]);
    }

    #[test]
    fn kicks_are_confirmed_and_publishers_stand_for_their_streams() {
        let mut view = View::default();
        press(&mut view, &[Key::Char('k')]);
        assert_eq!(view.word, "it has no publisher");
        assert_eq!(press(&mut view, &[Key::Down, Key::Char('k'), Key::Char('n')]), Act::Nothing);
        assert_eq!(press(&mut view, &[Key::Char('k'), Key::Char('y')]), Act::Kick("aaaaaaaa".into()));
        assert_eq!(press(&mut view, &[Key::Char('q')]), Act::Quit);
    }

    #[test]
    fn a_small_terminal_is_never_overrun() {
        for (columns, height) in [(1, 1), (10, 3), (20, 5)] {
            let screen = View { selected: 9, ..View::default() }.screen(&look(), "here:1985", (columns, height));
            let bare = |line: &String| line.trim_start_matches(BOLD).trim_start_matches(REVERSE).chars().count();
            assert!(screen.len() <= height && screen.iter().all(|line| bare(line) <= columns), "{screen:?}");
        }
    }
}
