//! What is refused, and what is remarked upon.

use super::*;
use crate::config::{
    directives::{self, Kind, Row, Section, Status, dotted},
    table,
};

/// `name` with plausible arguments, as it would stand in a file.
fn line(section: &Section, row: &Row) -> String {
    let name = row.name;
    match row.kind {
        Kind::Block => {
            let path = dotted(section.path, name);
            format!("{name} name {{\n{}}}\n", body(directives::find(&path).unwrap()))
        }
        Kind::Free => format!("{name} {{ any thing; }}\n"),
        Kind::Bool | Kind::BoolOn if matches!(name, "is_full" | "asprocess") => format!("{name} off;\n"),
        Kind::Bool | Kind::BoolOn => format!("{name} on;\n"),
        Kind::Number(_, max, _) => format!("{name} {max};\n"),
        Kind::Int(_) => format!("{name} 7;\n"),
        Kind::Float(_) => format!("{name} 1.5;\n"),
        Kind::OneOf(names) => format!("{name} {};\n", names.split(", ").next().unwrap()),
        Kind::Endpoints => format!("{name} 1234 [::]:1235;\n"),
        Kind::Rule => format!("{name} play 10.0.0.0/8;\n"),
        _ => format!("{name} word;\n"),
    }
}

fn body(section: &Section) -> String {
    section.rows.iter().map(|row| line(section, row)).collect()
}

/// A line inside the blocks of a dotted path.
fn inside(path: &str, line: &str) -> String {
    path.rsplit('.').filter(|name| !name.is_empty()).fold(line.into(), |text, name| {
        let arg = if name == "vhost" { " v.io" } else { "" };
        format!("{name}{arg} {{\n{text} }}\n")
    })
}

#[test]
fn a_file_with_every_directive_is_accepted_and_tells_what_does_not_act() {
    let config = load(&body(directives::find("").unwrap()));
    let silent = |row: &Row| row.status == Status::Accepted && row.kind != Kind::Block;
    let mut expected: Vec<_> =
        directives::all().filter(|(_, row)| silent(row)).map(|(section, row)| dotted(section.path, row.name)).collect();
    let mut accepted = config.accepted;
    expected.sort();
    accepted.sort();
    assert_eq!(accepted, expected);
    assert!(accepted.contains(&"ff_log_dir".into()) && accepted.contains(&"vhost.dash.enabled".into()));
    let gone = |row: &Row| row.status == Status::Gone;
    for (section, row) in directives::all().filter(|(_, row)| gone(row)) {
        let warning = format!(": {} has no effect, as in SRS", dotted(section.path, row.name));
        assert!(config.warnings.iter().any(|told| told.ends_with(&warning)), "{warning}");
    }
    assert_eq!(config.chunk_size, 16_777_215);
}

#[test]
fn what_is_off_is_not_called_unsupported() {
    let accepted = |mr| load(&format!("listen 1935; vhost a {{ publish {{ mr {mr}; mr_latency 350; }} }}")).accepted;
    assert_eq!(accepted("on"), ["vhost.publish.mr", "vhost.publish.mr_latency"]);
    assert_eq!(accepted("off"), ["vhost.publish.mr_latency"]);
}

#[test]
fn unknown_names_are_refused_in_every_block_that_srs_checks() {
    for section in table::SECTIONS {
        let path = section.path;
        let text = inside(path, "foo_bar 1;");
        if !section.checked {
            let config = load(&text);
            assert!(config.warnings.iter().any(|w| w.ends_with(&format!("{path}.foo_bar is unknown and ignored"))));
            continue;
        }
        let depth = path.split('.').filter(|name| !name.is_empty()).count();
        let what = match path {
            "" => "directive foo_bar".into(),
            _ if path.starts_with("vhost") => format!("{path}.foo_bar of v.io"),
            _ => format!("{path}.foo_bar"),
        };
        assert_eq!(refusal(&text), format!("t.conf:{}:1: illegal {what}", depth + 1));
    }
}

#[test]
fn what_srs_refuses_is_refused() {
    for (text, error) in [
        ("", "t.conf: conf is empty"),
        ("# nothing", "t.conf: conf is empty"),
        ("worker_processes 1;", "t.conf:1:1: illegal directive worker_processes"),
        (
            "listen 1935;\nis_full on;",
            "t.conf:2:1: is_full marks a file that only documents; write one with what you need",
        ),
        ("vhost v { http_remux { } http_remux { } }", "t.conf:1:26: v has more than one http_remux"),
        ("vhost { }", "t.conf:1:1: a vhost needs a name"),
        ("http_server on;", "t.conf:1:1: http_server is a block, expecting { }"),
        ("listen 1935 { }", "t.conf:1:1: listen is not a block, expecting ;"),
        ("listen 1935", "t.conf:1:12: unexpected end of file, expecting ; or \"}\""),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_what_was_expected() {
    let endpoint = "expecting port, ip:port or [ipv6]:port, with a port from 1 to 65535";
    let level = "expecting one of verbose, info, trace, warn, error, off";
    for (text, error) in [
        ("max_connections 0;", "t.conf:1:1: max_connections 0: expecting number from 1 to 10000000".into()),
        ("max_connections many;", "t.conf:1:1: max_connections many: expecting number from 1 to 10000000".into()),
        ("shards 1025;", "t.conf:1:1: shards 1025: expecting number from 1 to 1024".into()),
        ("listen 1935 0;", format!("t.conf:1:1: listen 0: {endpoint}")),
        ("rtmp { listen h:1; }", format!("t.conf:1:8: rtmp.listen h:1: {endpoint}")),
        ("http_api { listen x; }", format!("t.conf:1:12: http_api.listen x: {endpoint}")),
        ("srs_log_level loud;", format!("t.conf:1:1: srs_log_level loud: {level}")),
        (
            "vhost v { play { queue_length -1; } }",
            "t.conf:1:18: vhost.play.queue_length -1: expecting number from 1 to 3600 s".into(),
        ),
        ("chunk_size 0;", "t.conf:1:1: chunk_size 0: expecting number from 1 to 16777215 bytes".into()),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
    let many = (1..=65).map(|port| port.to_string()).collect::<Vec<_>>().join(" ");
    assert!(refusal(&format!("listen {many};")).ends_with("expecting at most 64 endpoints"));
    let error = load_with("listen 1;", &[("SRS_MAX_CONNECTIONS", "0")]).unwrap_err();
    assert_eq!(error, "SRS_MAX_CONNECTIONS: max_connections 0: expecting number from 1 to 10000000");
}

#[test]
fn authentication_that_keeps_nobody_out_ends_the_start() {
    let auth = |inner: &str| format!("http_api {{ auth {{ enabled on; {inner} }} }}");
    for (inner, error) in [
        ("", "SRS_HTTP_API_AUTH_USERNAME: http_api.auth.username is not set: expecting a name without a colon"),
        (
            "username a;",
            "SRS_HTTP_API_AUTH_PASSWORD: http_api.auth.password is not set: expecting a password without a colon",
        ),
        ("username a; password b:c;", "t.conf:1:43: http_api.auth.password b:c: expecting a password without a colon"),
        ("type bearer;", "SRS_HTTP_API_AUTH_TOKEN: http_api.auth.token is not set: expecting a token"),
        ("type digest;", "t.conf:1:31: http_api.auth.type digest: expecting one of basic, bearer"),
    ] {
        assert_eq!(refusal(&auth(inner)), error);
    }
    // As before SRS 8, which wants a type.
    let basic = Auth::Basic { username: "a".into(), password: "b".into() };
    assert_eq!(load(&auth("username a; password b;")).http_api.auth, Some(basic));
    assert_eq!(load("http_api { auth { username a; } }").http_api.auth, None);
}

#[test]
fn what_is_always_so_is_remarked_upon_only_where_it_is_wanted_otherwise() {
    for (text, remark) in [
        ("rtc_server { protocol tcp; }", "1:14: rtc_server.protocol tcp: not supported, it is always udp"),
        ("rtc_server { encrypt off; }", "1:14: rtc_server.encrypt off: not supported, it is always on"),
        ("rtc_server { tcp { enabled on; } }", "1:20: rtc_server.tcp.enabled on: not supported, it is always off"),
        (
            "rtc_server { black_hole { enabled on; } }",
            "1:27: rtc_server.black_hole.enabled on: not supported, it is always off",
        ),
        ("srt_server { tsbpdmode off; }", "1:14: srt_server.tsbpdmode off: not supported, it is always on"),
        ("srt_server { mss 1400; }", "1:14: srt_server.mss 1400: not supported, it is always 1500"),
    ] {
        let text = format!("{text} vhost v {{ }}");
        assert_eq!((load(&text).accepted, remarks(&text, &[])), (vec![], vec![remark.into()]));
    }
    let vhost = "vhost v { srt { srt_to_rtmp off; } rtc { nack true; twcc off; } }";
    assert_eq!(
        remarks(vhost, &[("SRS_RTC_SERVER_ENCRYPT", "off"), ("SRS_RTC_SERVER_ECDSA", "on")]),
        [
            "1:17: vhost.srt.srt_to_rtmp off: not supported, it is always on",
            "1:53: vhost.rtc.twcc off: not supported, it is always on",
            "SRS_RTC_SERVER_ENCRYPT: rtc_server.encrypt off: not supported, it is always on",
        ]
    );
    assert_eq!(
        remarks("vhost v { rtc { pli_for_rtmp 31; } }", &[]),
        ["vhost v: pli_for_rtmp 31: not from 0.5 to 30 s, 6.0 is used"]
    );
}

#[test]
fn the_first_of_two_counts_and_the_second_is_remarked_upon() {
    let config = load("listen 1; listen 2;\nvhost v { play { gop_cache off; } play { gop_cache on; } }\nvhost v { }");
    assert_eq!((shown(&config.rtmp_listen).as_str(), config.vhosts.len()), ("0.0.0.0:1", 1));
    assert!(!config.vhosts[0].gop_cache);
    let ends = ["t.conf:1:11: listen again", "t.conf:2:35: vhost.play again", "t.conf:3:1: vhost v again"];
    assert_eq!(config.warnings.len(), ends.len(), "{:?}", config.warnings);
    for (warning, end) in config.warnings.iter().zip(ends) {
        assert!(warning.ends_with(&format!("{end}, the first one counts")), "{warning}");
    }
}

#[test]
fn what_is_odd_but_works_is_remarked_upon() {
    for (text, remark) in [
        ("chunk_size 65537; vhost v { }", ":1:1: chunk_size 65537 is outside of 128 to 65536"),
        ("vhost v { chunk_size 127; }", ":1:11: chunk_size 127 is outside of 128 to 65536"),
        ("max_connections 1 2; vhost v { }", ":1:1: max_connections takes one argument, the rest is ignored"),
        ("vhost v { rtc { opus_bitrate 7999; } }", "vhost v: opus_bitrate 7999 is out of range, 8000 is used"),
        ("listen 1;", "no vhost is configured: nobody can publish or play"),
        (
            "vhost v { http_remux { enabled on; mount /[app]/[stream].aac; } }",
            "vhost v: http_remux mount /[app]/[stream].aac: only .flv and .ts are served yet",
        ),
        ("vhost v { gop_cache on; }", ":1:11: vhost.gop_cache is now vhost.play.gop_cache"),
    ] {
        let warnings = load(text).warnings;
        assert!(warnings.len() == 1 && warnings[0].ends_with(remark), "{text}: {warnings:?}");
    }
    assert_eq!(load("chunk_size 128; vhost v { chunk_size 65536; }").warnings, [""; 0]);
}
