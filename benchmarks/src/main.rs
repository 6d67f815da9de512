mod source;
mod sys;
fn main() {
    use shardcast_engine::{fanout::Format, frame::Frame, codec::Kind, prologue::Prologue};
    use std::time::*;
    let a: Vec<String> = std::env::args().collect();
    let secs: i64 = a[1].parse().unwrap();
    let mut s = source::Source::new(source::SourceConfig { width: 1280, height: 720, fps: 30, kbps: 1500, gop: 60, sample_rate: 48000, sound_kbps: 96, name: "live/stream-1".into() }).unwrap();
    let mut p = Prologue::default();
    for t in s.tracks() { p = p.with_track(t).unwrap(); }
    p = p.with_metadata(s.metadata()).unwrap();
    let mut out = Vec::new();
    let mut f = shardcast_protocols::flv::Flv;
    f.head(&p, Default::default(), &mut out);
    let start = SystemTime::now(); let i = Instant::now();
    let (mut v, mut key) = (0, 0);
    while s.due().as_ms() < secs * 1000 {
        let fr: Frame = s.next(start + Duration::from_millis(s.due().as_ms() as u64)).unwrap();
        if fr.kind == Kind::Video { v += fr.payload.len(); if fr.keyframe { key += fr.payload.len() } }
        f.mux(&p, &fr, &mut out);
    }
    println!("{:?} for {secs} s: {:.1} % of a core; video {} kbps, key {} bytes", i.elapsed(), i.elapsed().as_secs_f64() / secs as f64 * 100., v * 8 / 1000 / secs as usize, key);
    std::fs::write("/tmp/x.flv", out).unwrap();
}
