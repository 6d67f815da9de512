//! Recording: what is in the files, judged by ffmpeg and by what was published.

use crate::support::{
    PATIENCE,
    media::Media,
    probe::{Decoder, Kind, Probe},
    process::Process,
    publisher::Publisher,
    server::Server,
    until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const MEDIA_TIME: Duration = Duration::from_secs(10);

/// A server that records to a folder by `dvr`'s directives, in which `DIR` is the folder.
fn recording(folder: &Path, dvr: &str) -> Server {
    let dvr = dvr.replace("DIR", &folder.display().to_string());
    let conf = format!(
        "srs_log_tank console; http_server {{ enabled on; }} http_api {{ enabled on; }}
        vhost __defaultVhost__ {{ dvr {{ enabled on; {dvr} }} }}"
    );
    Server::of_conf(&conf, 2)
}

/// The files in a folder whose names end with `end`, by name.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    paths.sort();
    paths
}

fn wait_for_files(folder: &Path, end: &str, count: usize) -> Vec<PathBuf> {
    until(&format!("{count} files with {end}"), || {
        let files = files(folder, end);
        (files.len() == count).then_some(files)
    })
}

/// A recording has every frame of what was published once, from its first picture on.
fn assert_whole(file: &Path, media: Media) {
    let (got, sent) = (Probe::whole(file).finish(PATIENCE), Probe::whole(media.file()).finish(PATIENCE));
    assert_eq!(got.size, media.size());
    let hashes =
        |packets: Vec<&crate::support::probe::Packet>| packets.iter().map(|p| p.hash.clone()).collect::<Vec<_>>();
    assert_eq!(hashes(got.of(Kind::Video)), hashes(sent.of(Kind::Video)), "pictures");
    let (got_sound, sent_sound) = (hashes(got.of(Kind::Audio)), hashes(sent.of(Kind::Audio)));
    // Sound that came before the first picture is left out.
    assert!(got_sound.len() + 4 >= sent_sound.len() && sent_sound.ends_with(&got_sound), "sound");
    let decoded = Decoder::whole(file).finish(PATIENCE);
    assert_eq!(decoded.pictures, Decoder::whole(media.file()).finish(PATIENCE).pictures);
}

/// The types of an MP4's outermost boxes.
fn boxes(file: &[u8]) -> Vec<String> {
    let (mut at, mut kinds) = (0, Vec::new());
    while let Some(head) = file.get(at..at + 8) {
        kinds.push(String::from_utf8_lossy(&head[4..]).into_owned());
        at += u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    }
    assert_eq!(at, file.len());
    kinds
}

#[test]
fn each_publish_gives_a_file_of_flv() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = recording(folder.path(), "dvr_path DIR/[app]/[stream].[timestamp].flv;");
    for count in 1..=2 {
        Publisher::once(&server, "live/a", Media::Short).finish(MEDIA_TIME);
        wait_for_files(&folder.path().join("live"), ".flv", count);
    }
    for file in files(&folder.path().join("live"), ".flv") {
        assert_whole(&file, Media::Short);
    }
    assert!(files(&folder.path().join("live"), ".tmp").is_empty());
    assert_eq!(server.total("shardcast_recordings_closed_total", ""), 2.0);
    server.stop();
}

#[test]
fn an_mp4_plays_while_it_is_written_and_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = recording(folder.path(), "dvr_path DIR/[stream].[timestamp].mp4;");
    let publisher = Publisher::once(&server, "live/a", Media::Reordered);
    let making = wait_for_files(folder.path(), ".mp4.tmp", 1).remove(0);
    // What a crash of the server would leave: fragments are written whole.
    let crashed = folder.path().join("crashed.mp4.copy");
    until("some fragments", || (fs::metadata(&making).ok()?.len() > 200_000).then_some(()));
    fs::copy(&making, &crashed).expect("copy a file");
    let probed = Probe::whole(&crashed).finish(PATIENCE);
    assert!(probed.of(Kind::Video).len() >= 25 && probed.of(Kind::Audio).len() >= 25);
    assert!(Decoder::whole(&crashed).finish(PATIENCE).pictures.len() >= 25);

    publisher.finish(MEDIA_TIME);
    let file = wait_for_files(folder.path(), ".mp4", 1).remove(0);
    assert_whole(&file, Media::Reordered);
    let kinds = boxes(&fs::read(&file).expect("read a recording"));
    assert_eq!((kinds.first().map(String::as_str), kinds.last().map(String::as_str)), (Some("ftyp"), Some("moov")));
    assert!(kinds[1..kinds.len() - 1].iter().all(|kind| ["free", "mdat"].contains(&kind.as_str())), "{kinds:?}");
    server.stop();
}

#[test]
fn the_end_of_the_server_finishes_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = recording(folder.path(), "dvr_path DIR/[stream].mp4;");
    let _publisher = Publisher::looping(&server, "live/a", Media::Short);
    let making = wait_for_files(folder.path(), ".mp4.tmp", 1).remove(0);
    until("some fragments", || (fs::metadata(&making).ok()?.len() > 50_000).then_some(()));
    server.stop();
    assert!(Decoder::whole(folder.path().join("a.mp4")).finish(PATIENCE).pictures.len() >= 10);
}

#[test]
fn segments_are_cut_at_keyframes() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = "dvr_path DIR/[stream].[timestamp].mp4; dvr_plan segment; dvr_duration 2; dvr_apply live/a;";
    let server = recording(folder.path(), plan);
    Publisher::once(&server, "live/b", Media::Short).finish(MEDIA_TIME);
    Publisher::once(&server, "live/a", Media::Short).finish(MEDIA_TIME);
    let segments = wait_for_files(folder.path(), ".mp4", 2);
    let counts = segments.iter().map(|file| Decoder::whole(file).finish(PATIENCE).pictures.len());
    assert_eq!(counts.collect::<Vec<_>>(), [50, 50]);
    server.stop();
}

#[test]
fn what_is_there_is_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.flv"), "mine").expect("write a file");
    let server = recording(folder.path(), "dvr_path DIR/[stream].flv;");
    let _publisher = Publisher::looping(&server, "live/a", Media::Short);
    until("the error is counted", || (server.total("shardcast_recording_errors_total", "") == 1.0).then_some(()));
    assert_eq!(fs::read(folder.path().join("a.flv")).expect("read a file"), b"mine");
    // The stream itself goes on.
    server.wait_until_live("live/a");
    server.stop();
}

#[test]
fn times_are_utc_where_that_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    for (zone, wanted) in [("off", "-05"), ("on", "+00")] {
        let dvr = format!("dvr_path {}/{zone}.[2006]-[01]-[02]-[15].flv;", folder.path().display());
        let conf = format!(
            "srs_log_tank console; utc_time {zone}; http_server {{ enabled on; }} http_api {{ enabled on; }}
            vhost __defaultVhost__ {{ dvr {{ enabled on; {dvr} }} }}"
        );
        let server = Server::of_conf_with(&conf, &[("TZ", "FIVE+5")], 2);
        let clock = |zone: &str, format: &str| {
            let mut date = Command::new("date");
            date.env("TZ", if zone == "+00" { "UTC0" } else { "FIVE+5" }).arg(format);
            let output = Process::start(&mut date).finish(PATIENCE).stdout;
            String::from_utf8(output).expect("UTF-8").trim().to_owned()
        };
        let hour = || clock(wanted, "+%Y-%m-%d-%H");
        let before = hour();
        Publisher::once(&server, "live/a", Media::Short).finish(MEDIA_TIME);
        let file = wait_for_files(folder.path(), ".flv", 1).remove(0);
        let name = |hour: &str| folder.path().join(format!("{zone}.{hour}.flv"));
        assert!(file == name(&before) || file == name(&hour()), "{}", file.display());
        fs::remove_file(file).expect("remove a file");
        let line = server.wait_for_log(&["is ready after"]);
        let logged = line[1..14].replace(' ', "-");
        assert!(logged == before || logged == hour(), "{line}");
        server.stop();
    }
}
