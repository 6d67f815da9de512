//! Spellings of SRS 1 to 5, rewritten into today's before anything is checked.

use super::{directives::dotted, grammar::Directive};

/// An old spelling: `old` in the block `path`.
pub struct Rule {
    pub path: &'static str,
    pub old: &'static str,
    pub new: New,
}

pub enum New {
    /// Nothing: SRS dropped it.
    Gone,
    /// The same under another name.
    Name(&'static str),
    /// The same name or another in a block next to it.
    Into(&'static str, &'static str),
    /// A line `old a b;` becomes `block { enabled on; name a b; }`. A block of the old name stays.
    Switch(&'static str, &'static str),
    /// The block's children go to another block under other names.
    Unfold(&'static str, &'static [(&'static str, &'static str)]),
    /// `old word` becomes `name on`, with any other word `name off`.
    Flag(&'static str, &'static str),
}
use New::*;

const fn rule(path: &'static str, old: &'static str, new: New) -> Rule {
    Rule { path, old, new }
}

#[rustfmt::skip]
pub static RULES: &[Rule] = &[
    rule("", "http_stream", Name("http_server")),
    rule("rtc_server", "perf_stat", Gone),
    rule("rtc_server", "queue_length", Gone),
    rule("srt_server", "tlpkdrop", Name("tlpktdrop")),
    rule("stream_caster", "tcp_enable", Gone),
    rule("stream_caster", "rtp_port_min", Gone),
    rule("stream_caster", "rtp_port_max", Gone),
    rule("stream_caster", "wait_keyframe", Gone),
    rule("stream_caster", "rtp_idle_timeout", Gone),
    rule("stream_caster", "audio_enable", Gone),
    rule("stream_caster", "auto_create_channel", Gone),
    rule("stream_caster", "host", Into("sip", "candidate")),
    rule("stream_caster.sip", "serial", Gone),
    rule("stream_caster.sip", "realm", Gone),
    rule("stream_caster.sip", "ack_timeout", Gone),
    rule("stream_caster.sip", "keepalive_timeout", Gone),
    rule("stream_caster.sip", "invite_port_fixed", Gone),
    rule("stream_caster.sip", "query_catalog_interval", Gone),
    rule("stream_caster.sip", "auto_play", Gone),
    rule("vhost", "http", Name("http_static")),
    rule("vhost", "refer", Switch("refer", "all")),
    rule("vhost", "refer_play", Switch("refer", "play")),
    rule("vhost", "refer_publish", Switch("refer", "publish")),
    rule("vhost", "mr", Unfold("publish", &[("enabled", "mr"), ("latency", "mr_latency")])),
    rule("vhost", "publish_1stpkt_timeout", Into("publish", "firstpkt_timeout")),
    rule("vhost", "publish_normal_timeout", Into("publish", "normal_timeout")),
    rule("vhost", "time_jitter", Into("play", "time_jitter")),
    rule("vhost", "mix_correct", Into("play", "mix_correct")),
    rule("vhost", "atc", Into("play", "atc")),
    rule("vhost", "atc_auto", Into("play", "atc_auto")),
    rule("vhost", "mw_latency", Into("play", "mw_latency")),
    rule("vhost", "gop_cache", Into("play", "gop_cache")),
    rule("vhost", "gop_cache_max_frames", Into("play", "gop_cache_max_frames")),
    rule("vhost", "queue_length", Into("play", "queue_length")),
    rule("vhost", "send_min_interval", Into("play", "send_min_interval")),
    rule("vhost", "reduce_sequence_header", Into("play", "reduce_sequence_header")),
    rule("vhost", "forward", Switch("forward", "destination")),
    rule("vhost", "mode", Into("cluster", "mode")),
    rule("vhost", "origin", Into("cluster", "origin")),
    rule("vhost", "token_traverse", Into("cluster", "token_traverse")),
    rule("vhost", "vhost", Into("cluster", "vhost")),
    rule("vhost", "debug_srs_upnode", Into("cluster", "debug_srs_upnode")),
    rule("vhost", "nack", Unfold("rtc", &[("enabled", "nack"), ("no_copy", "nack_no_copy")])),
    rule("vhost", "twcc", Unfold("rtc", &[("enabled", "twcc")])),
    rule("vhost.rtc", "aac", Flag("rtmp_to_rtc", "transcode")),
    rule("vhost.rtc", "bframe", Flag("keep_bframe", "keep")),
    rule("vhost.http_remux", "hstrs", Gone),
];

/// Rewrites a file's tree, and says what it rewrote.
pub fn modernise(tree: Vec<Directive>, warnings: &mut Vec<String>) -> Vec<Directive> {
    block("", tree, warnings)
}

fn block(path: &str, directives: Vec<Directive>, warnings: &mut Vec<String>) -> Vec<Directive> {
    let (old, mut kept): (Vec<_>, Vec<_>) =
        directives.into_iter().map(|d| (rule_of(path, &d), d)).partition(|(rule, _)| rule.is_some());
    let mut kept: Vec<Directive> = kept.drain(..).map(|(_, d)| d).collect();
    // Behind what is there: of two, the first counts, and today's spelling should win.
    for (rule, directive) in old.into_iter().filter_map(|(rule, d)| Some((rule?, d))) {
        let new = rule.now(path).map_or("is gone and ignored".into(), |new| format!("is now {new}"));
        warnings.push(format!("{}: {} {new}", directive.place, dotted(path, rule.old)));
        apply(&rule.new, directive, &mut kept);
    }
    for directive in &mut kept {
        let path = dotted(path, &directive.name);
        directive.children = directive.children.take().map(|children| block(&path, children, warnings));
    }
    kept
}

fn rule_of(path: &str, directive: &Directive) -> Option<&'static Rule> {
    let rule = RULES.iter().find(|rule| rule.path == path && rule.old == directive.name)?;
    let is_block = directive.children.is_some();
    match rule.new {
        Switch(..) | Into(..) if is_block => None,
        Unfold(..) if !is_block => None,
        _ => Some(rule),
    }
}

fn apply(new: &New, mut directive: Directive, siblings: &mut Vec<Directive>) {
    match *new {
        Gone => {}
        Name(name) => {
            directive.name = name.into();
            siblings.push(directive);
        }
        Into(to, name) => {
            directive.name = name.into();
            children_of(to, &directive, siblings).push(directive);
        }
        Switch(to, name) => {
            let enabled = Directive { name: "enabled".into(), args: vec!["on".into()], ..directive.clone() };
            directive.name = name.into();
            let children = children_of(to, &directive, siblings);
            if !children.iter().any(|d| d.name == "enabled") {
                children.push(enabled);
            }
            children.push(directive);
        }
        Unfold(to, names) => {
            for mut child in directive.children.take().unwrap_or_default() {
                // A name that was never there keeps its own, to be refused by the check.
                if let Some((_, name)) = names.iter().find(|(old, _)| *old == child.name) {
                    child.name = name.to_string();
                }
                children_of(to, &directive, siblings).push(child);
            }
        }
        Flag(name, on) => {
            let is_on = directive.args.first().is_some_and(|word| word == on);
            directive.args = vec![if is_on { "on" } else { "off" }.into()];
            directive.name = name.into();
            siblings.push(directive);
        }
    }
}

/// The contents of the first block `name`, which is made if there is none.
fn children_of<'a>(name: &str, like: &Directive, siblings: &'a mut Vec<Directive>) -> &'a mut Vec<Directive> {
    let at = siblings.iter().position(|d| d.name == name).unwrap_or_else(|| {
        siblings.push(Directive { name: name.into(), args: Vec::new(), children: None, place: like.place.clone() });
        siblings.len() - 1
    });
    siblings[at].children.get_or_insert_default()
}

impl Rule {
    /// Today's spelling for readers, `None` if there is none.
    pub fn now(&self, path: &str) -> Option<String> {
        match self.new {
            Gone => None,
            Name(name) | Flag(name, _) => Some(dotted(path, name)),
            Into(block, name) | Switch(block, name) => Some(dotted(path, &dotted(block, name))),
            Unfold(block, names) => {
                let name = |(_, new): &(&str, &str)| dotted(path, &dotted(block, new));
                Some(names.iter().map(name).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::grammar::parse_text, *};

    fn show(block: &[Directive]) -> String {
        let one = |d: &Directive| {
            let words = std::iter::once(&d.name).chain(&d.args).cloned().collect::<Vec<_>>().join(" ");
            match &d.children {
                Some(children) => format!("{words} {{ {} }}", show(children)),
                None => format!("{words};"),
            }
        };
        block.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn modern(text: &str) -> (String, Vec<String>) {
        let mut warnings = Vec::new();
        (show(&modernise(parse_text("t", text.as_bytes()).unwrap(), &mut warnings)), warnings)
    }

    #[test]
    fn every_old_spelling_becomes_the_new_one() {
        for (old, new) in [
            ("http_stream { enabled on; }", "http_server { enabled on; }"),
            ("rtc_server { perf_stat on; queue_length 1; listen 1; }", "rtc_server { listen 1; }"),
            ("srt_server { tlpkdrop off; }", "srt_server { tlpktdrop off; }"),
            ("stream_caster { host 1.2.3.4; tcp_enable on; }", "stream_caster { sip { candidate 1.2.3.4; } }"),
            ("stream_caster { sip { serial 1; listen 2; } }", "stream_caster { sip { listen 2; } }"),
            ("stream_caster { host h; sip { listen 2; } }", "stream_caster { sip { listen 2; candidate h; } }"),
            ("vhost v { http { dir d; } }", "vhost v { http_static { dir d; } }"),
            ("vhost v { http_remux { hstrs on; mount m; } }", "vhost v { http_remux { mount m; } }"),
            (
                "vhost v { refer a b; refer_play c; refer_publish d; }",
                "vhost v { refer { enabled on; all a b; play c; publish d; } }",
            ),
            ("vhost v { refer { enabled off; all a; } }", "vhost v { refer { enabled off; all a; } }"),
            ("vhost v { mr { enabled on; latency 9; } }", "vhost v { publish { mr on; mr_latency 9; } }"),
            (
                "vhost v { publish_1stpkt_timeout 1; publish_normal_timeout 2; }",
                "vhost v { publish { firstpkt_timeout 1; normal_timeout 2; } }",
            ),
            (
                "vhost v { time_jitter a; mix_correct b; atc c; atc_auto d; mw_latency e; }",
                "vhost v { play { time_jitter a; mix_correct b; atc c; atc_auto d; mw_latency e; } }",
            ),
            (
                "vhost v { gop_cache_max_frames b; queue_length c; send_min_interval d; reduce_sequence_header e; }",
                "vhost v { play { gop_cache_max_frames b; queue_length c; send_min_interval d; reduce_sequence_header e; } }",
            ),
            // Of two the first counts, so today's spelling stays in front.
            ("vhost v { gop_cache off; play { gop_cache on; } }", "vhost v { play { gop_cache on; gop_cache off; } }"),
            ("vhost v { forward a:1 b; }", "vhost v { forward { enabled on; destination a:1 b; } }"),
            ("vhost v { forward { backend u; } }", "vhost v { forward { backend u; } }"),
            (
                "vhost v { mode remote; origin o; token_traverse on; vhost w; debug_srs_upnode off; }",
                "vhost v { cluster { mode remote; origin o; token_traverse on; vhost w; debug_srs_upnode off; } }",
            ),
            (
                "vhost v { nack { enabled on; no_copy off; } twcc { enabled off; } }",
                "vhost v { rtc { nack on; nack_no_copy off; twcc off; } }",
            ),
            (
                "vhost v { rtc { aac transcode; bframe discard; } }",
                "vhost v { rtc { rtmp_to_rtc on; keep_bframe off; } }",
            ),
            ("vhost v { rtc { aac discard; bframe keep; } }", "vhost v { rtc { rtmp_to_rtc off; keep_bframe on; } }"),
        ] {
            assert_eq!(modern(old).0, new, "{old}");
        }
    }

    #[test]
    fn every_old_spelling_is_remarked_upon_and_no_new_one() {
        let (_, warnings) = modern("http_stream { }\nvhost v { gop_cache on; http_remux { hstrs on; } }");
        assert_eq!(
            warnings,
            [
                "t:1:1: http_stream is now http_server",
                "t:2:11: vhost.gop_cache is now vhost.play.gop_cache",
                "t:2:38: vhost.http_remux.hstrs is gone and ignored",
            ]
        );
        assert_eq!(modern("vhost v { play { gop_cache on; } }").1, [""; 0]);
        for rule in RULES {
            let is_block = matches!(rule.new, Unfold(..));
            let line = if is_block { format!("{} {{ }}", rule.old) } else { format!("{};", rule.old) };
            let text = rule
                .path
                .rsplit('.')
                .filter(|name| !name.is_empty())
                .fold(line, |text, name| format!("{name} {{ {text} }}"));
            assert_eq!(modern(&text).1.len(), 1, "{text}");
        }
    }
}
