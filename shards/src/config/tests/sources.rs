//! The file, the environment, what is included, and what is read again.

use super::{servers::rtc, *};
use crate::config::directives::{self, Kind, Status};
use std::time::Duration;

#[test]
fn variables_win_over_the_file_and_over_the_built_in() {
    let env = [
        ("SRS_LISTEN", "1 [::1]:2"),
        ("SRS_MAX_CONNECTIONS", "5"),
        ("SHARDCAST_SHARDS", "2"),
        ("SRS_HTTP_SERVER_LISTEN", "8"),
        ("SRS_HTTP_SERVER_ENABLED", "off"),
        ("SRS_HTTP_API_ENABLED", "on"),
        ("SRS_VHOST_PLAY_GOP_CACHE", "off"),
        ("SRS_VHOST_PLAY_QUEUE_LENGTH", ""),
        ("SRS_LOG_LEVEL", "warn"),
        ("SRS_LOG_FILE", "/x"),
        ("SRS_VHOST_DASH_ENABLED", "on"),
        ("SRS_DAEMON", "off"),
        ("SRS_SERVICE_HOST", "10.0.0.1"),
    ];
    let text = "listen 9; rtmp { listen 10; } max_connections 9; shards 9; http_server { enabled on; }
        srs_log_level error; daemon on;
        vhost a { play { gop_cache on; } } vhost b { }";
    let loaded = load_with(text, &env).unwrap();
    assert_eq!(loaded.accepted, ["vhost.dash.enabled"]);
    assert!(!loaded.process.daemon);
    let built_in = Config::built_in(&env.into_iter().collect()).unwrap();
    for config in [&loaded, &built_in] {
        assert_eq!(shown(&config.rtmp_listen), "0.0.0.0:1 [::1]:2");
        assert_eq!((config.max_connections, config.shards), (Some(5), Some(2)));
        assert_eq!((config.http_server.enabled, shown(&config.http_server.listen).as_str()), (false, "0.0.0.0:8"));
        assert_eq!((config.log.level, config.log.file.to_str()), (Level::Warn, Some("/x")));
        assert!(config.http_api.enabled);
        assert!(config.vhosts.iter().all(|v| !v.gop_cache && v.queue_length.as_secs() == 10));
    }

    // The stronger of two names, and the two chunk sizes.
    let env =
        [("SRS_LISTEN", "1"), ("SRS_RTMP_LISTEN", "2"), ("SRS_SRS_LOG_TANK", "console"), ("SRS_LOG_TANK", "file")];
    let config = load_with("listen 9;", &env).unwrap();
    assert_eq!((shown(&config.rtmp_listen).as_str(), config.log.tank), ("0.0.0.0:2", Tank::Console));
    let text = "chunk_size 1000; vhost a { chunk_size 2000; } vhost b { }";
    for (variable, sizes) in [("SRS_CHUNK_SIZE", (500, 2000, 500)), ("SRS_VHOST_CHUNK_SIZE", (500, 500, 500))] {
        let config = load_with(text, &[(variable, "500")]).unwrap();
        assert_eq!((config.chunk_size, config.vhosts[0].chunk_size, config.vhosts[1].chunk_size), sizes, "{variable}");
    }
}

#[test]
fn every_variable_of_what_acts_has_an_effect() {
    for (section, row) in directives::all().filter(|(_, row)| row.status == Status::Acts) {
        let (one, other) = match row.kind {
            Kind::Bool | Kind::BoolOn => ("on".into(), "off".into()),
            Kind::Number(min, max, _) => (min.to_string(), max.to_string()),
            Kind::Endpoints => ("7".into(), "8".into()),
            Kind::OneOf(names) => {
                let mut names = names.split(", ").map(String::from);
                (names.next().unwrap(), names.next().unwrap())
            }
            Kind::Int(_) => ("7".into(), "8".into()),
            Kind::Float(_) => ("1.5".into(), "2".into()),
            Kind::Template => ("[stream]x[seq]".into(), "[stream]y[seq]".into()),
            _ => ("x".into(), "y".into()),
        };
        for variable in row.env_names(section) {
            // Authentication is whole, or ends the start; a mount is on, or is none.
            let kind = if matches!(row.name, "token" | "rtc_bearer_enabled") { "bearer" } else { "basic" };
            let whole = [("ENABLED", "on"), ("TYPE", kind), ("USERNAME", "u"), ("PASSWORD", "p"), ("TOKEN", "t")];
            let block = section.path.to_uppercase().replace('.', "_");
            let company = whole.map(|(name, value)| (format!("SRS_{block}_{name}"), value.to_owned()));
            let is_mount = section.path == "vhost.http_static";
            let company = company.into_iter().filter(|_| is_mount || section.path.ends_with(".auth"));
            // Of these, what they are about must be there too.
            let about = variable.ends_with("_FOR_DOCKER").then_some(["SRS_IN_DOCKER", "SRS_DAEMON"]);
            let about = about.into_iter().flatten().map(|name| (name.to_owned(), "on".to_owned()));
            let company: Vec<_> = company.chain(about).collect();
            let config = |value: String| {
                let env = company.iter().cloned().chain([(variable.clone(), value)]).collect();
                Config::built_in(&env).unwrap()
            };
            let (one, other) = (config(one.clone()), config(other.clone()));
            assert_ne!(Config { warnings: vec![], ..one }, Config { warnings: vec![], ..other }, "{variable}");
        }
    }
}

#[test]
fn without_a_file_the_default_vhost_is_served() {
    let config = Config::built_in(&Env::default()).unwrap();
    assert_eq!((&config.source, shown(&config.rtmp_listen).as_str()), (&Source::BuiltIn, "0.0.0.0:1935"));
    assert!(config.http_server.enabled && config.http_api.enabled && config.log.tank == Tank::Console);
    assert!(config.vhost("any.host").is_some_and(|vhost| vhost.http_remux.enabled));
    assert_eq!((config.accepted, config.warnings), (vec![], vec![]));
}

#[test]
fn old_spellings_act() {
    let config = load("http_stream { enabled on; } vhost v { gop_cache off; publish_normal_timeout 9; }");
    assert!(config.http_server.enabled && !config.vhosts[0].gop_cache);
    assert_eq!(config.vhosts[0].normal_timeout, Duration::from_millis(9));
    let config =
        load("vhost v { nack { enabled on; no_copy on; } twcc { enabled on; } rtc { enabled on; bframe keep; } }");
    assert_eq!(config.vhosts[0].rtc, Rtc { enabled: true, keep_bframe: true, ..rtc() });
    assert!(config.warnings.iter().all(|warning| !warning.contains("not supported")), "{:?}", config.warnings);
}

#[test]
fn an_included_vhost_is_a_vhost() {
    let dir = tempfile::tempdir().unwrap();
    let (main, part) = (dir.path().join("main.conf"), dir.path().join("part.conf"));
    std::fs::write(&part, "vhost v.io {\n    play { nope 1; }\n}").unwrap();
    std::fs::write(&main, format!("listen 1; include {};", part.display())).unwrap();
    let error = Config::load(&main, &Env::default()).unwrap_err().to_string();
    assert_eq!(error, format!("{}:2:12: illegal vhost.play.nope of v.io", part.display()));
    std::fs::write(&part, "vhost v.io { min_latency on; }").unwrap();
    assert!(Config::load(&main, &Env::default()).unwrap().vhost("v.io").is_some_and(|v| v.min_latency));
}

#[test]
fn what_a_start_leaves_out_depends_on_where_it_is() {
    let of = |text: &str, env: &[(&str, &str)]| {
        let config = load_with(text, env).unwrap();
        (config.process.daemon, config.log.tank, config.process.auto_reload)
    };
    let conf = "listen 1935; vhost a {}";
    assert_eq!(of(conf, &[]), (true, Tank::File, false));
    assert_eq!(of(&format!("{conf} in_docker on;"), &[]), (false, Tank::Console, true));
    let told = "in_docker on; disable_daemon_for_docker off; auto_reload_for_docker off; srs_log_tank file;";
    assert_eq!(of(&format!("{conf} {told}"), &[]), (true, Tank::File, false));
    let alone = Source::EnvOnly.read(&Env::default()).unwrap();
    assert_eq!((alone.process.daemon, alone.log.tank, alone.rtmp_listen.len()), (false, Tank::Console, 0));
    assert!(!alone.http_server.enabled && !alone.srt_server.enabled && alone.vhost("any.host").is_some());
    let told = [("SRS_LISTEN", "1935"), ("SRS_DAEMON", "on"), ("SRS_LOG_TANK", "file")];
    let told = Source::EnvOnly.read(&told.into_iter().collect()).unwrap();
    assert_eq!((told.process.daemon, told.log.tank, told.rtmp_listen.len()), (true, Tank::File, 1));
    assert_eq!(refusal("listen 1; asprocess on;").split(": ").nth(1), Some("daemon and asprocess exclude each other"));
}

#[test]
fn differences_are_told_by_directive_and_by_what_becomes_of_them() {
    let old = "listen 1935; daemon off; pid a; vhost a { play { gop_cache on; } } vhost gone { min_latency on; }";
    let new =
        "listen 1935 1936; daemon off; pid b; ff_log_dir x; max_connections 5; vhost a { play { queue_length 3; } }
        vhost b { hls { enabled on; } }";
    let env: Env = [("SRS_MAX_CONNECTIONS", "7")].into_iter().collect();
    let (old, new) = (load(old), load(new));
    let mut told: Vec<_> = old.differences(&new, &env).iter().map(|difference| difference.to_string()).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "ff_log_dir: x, was not there; accepted, not supported yet",
            "listen: 1935 1936, was 1935",
            "max_connections: 5, was not there; the environment says otherwise and wins",
            "pid: b, was a; this needs a restart",
            "vhost b: new",
            "vhost gone: gone",
            "vhost.play.gop_cache of a: gone, was on",
            "vhost.play.queue_length of a: 3, was not there",
        ]
    );
    assert!(old.differences(&old.clone(), &env).is_empty());
    let mut kept = new.clone();
    kept.keep_of(&old);
    assert_eq!((&kept.process.pid, &kept.vhosts), (&old.process.pid, &new.vhosts));
}
