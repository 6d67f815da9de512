//! Frames to packets and back: all sizes, loss, disorder and hostile bytes.

use super::{
    h264::{self, Depacketizer, packetize},
    *,
};
use crate::codec::{
    avc,
    hostile::{hex, mutations},
};
use bytes::Bytes;
use shardcast_engine::{
    codec::Kind,
    frame::{Frame, Media},
    time::Timestamp,
    track::Track,
};
use std::{
    collections::VecDeque,
    slice,
    time::{Duration, Instant},
};

/// Those of x264 at 320x240, baseline.
fn track() -> Track {
    let (sps, pps) = (hex("6742c00dd90141fb0110000003001000000303c0f142a480"), hex("68cb8cb2"));
    avc::track(avc::config_record(&sps, &pps)).unwrap()
}

/// A picture of slices, each of that many bytes.
fn picture(n: i64, keyframe: bool, slices: &[usize]) -> Frame {
    let at = Timestamp::from_ticks(n * 3000, h264::HZ);
    let mut payload = Vec::new();
    for len in slices {
        payload.extend_from_slice(&(*len as u32).to_be_bytes());
        payload.push(if keyframe { 0x65 } else { 0x41 });
        // No zeros: a byte stream would have to escape them.
        payload.extend((1..*len).map(|at| (at % 251) as u8 | 1));
    }
    Frame { kind: Kind::Video, dts: at, pts: at, keyframe, payload: payload.into() }
}

/// The frames as packets with sequence numbers from `first`.
fn packets(frames: &[Frame], first: u16) -> Vec<Packet> {
    let (mut out, mut sequence) = (Vec::new(), first);
    for frame in frames {
        let payloads = packetize(&track(), frame, MAX_PAYLOAD_LEN, true);
        let last = payloads.len() - 1;
        for (n, payload) in payloads.into_iter().enumerate() {
            assert!(payload.len() <= MAX_PAYLOAD_LEN);
            let timestamp = frame.pts.as_ticks(h264::HZ) as u32;
            let header = Header { marker: n == last, payload_type: 96, sequence, timestamp, ssrc: 1 };
            out.push(Packet { header, payload });
            sequence = sequence.wrapping_add(1);
        }
    }
    out
}

/// What a receiver makes of the packets; all arrive at once, then time passes.
fn receive(packets: &[Packet]) -> (Vec<Media>, Receiver) {
    let start = Instant::now();
    let mut receiver = Receiver::h264(start);
    for packet in packets {
        receiver.input(start, Packet::parse(&packet.to_bytes().into()).unwrap());
    }
    receiver.expire(start + Duration::from_secs(1));
    let media = std::iter::from_fn(|| receiver.poll()).collect();
    (media, receiver)
}

/// Keyframe, time and payload.
fn seen(media: &[Media]) -> Vec<(bool, i64, Bytes)> {
    let frames = media.iter().filter_map(|media| match media {
        Media::Frame(frame) => Some((frame.keyframe, frame.pts.as_ticks(h264::HZ), frame.payload.clone())),
        _ => None,
    });
    frames.collect()
}

fn sent(frames: &[&Frame]) -> Vec<(bool, i64, Bytes)> {
    let start = frames.first().map_or(0, |frame| frame.pts.as_ticks(h264::HZ));
    let all = frames.iter().map(|frame| (frame.keyframe, frame.pts.as_ticks(h264::HZ) - start, frame.payload.clone()));
    all.collect()
}

/// A group of pictures: a keyframe of four packets with parameter sets before it, then three of two slices.
fn group(n: i64) -> Vec<Frame> {
    (0..4).map(|at| picture(n * 4 + at, at == 0, if at == 0 { &[4000] } else { &[2000, 900] })).collect()
}

#[test]
fn frames_of_all_sizes_come_back() {
    for len in (1..=20).chain(1190..1215).chain(2390..2410).chain([65_536, 300_000]) {
        let frames = [picture(0, true, &[len]), picture(1, false, &[len, 5, len])];
        let (media, receiver) = receive(&packets(&frames, 65_535));
        assert_eq!(media[0], Media::Track(track()));
        assert_eq!(seen(&media), sent(&[&frames[0], &frames[1]]), "{len}");
        assert_eq!((receiver.stats().lost, receiver.stats().wrong, receiver.wants_keyframe()), (0, 0, false));
    }
}

#[test]
fn keyframes_bring_parameter_sets_and_fragments_are_of_one_size() {
    let payloads = packetize(&track(), &picture(0, true, &[100_003]), MAX_PAYLOAD_LEN, true);
    assert_eq!(payloads[0][..4], [0x78, 0, 24, 0x67]);
    assert_eq!(payloads.len(), 1 + 100_002_usize.div_ceil(1198));
    let (last, fragments) = payloads[1..].split_last().unwrap();
    assert!(fragments.iter().all(|payload| payload.len() == fragments[0].len()));
    assert!(last.len() <= fragments[0].len());
    assert_eq!((fragments[0][..2].to_vec(), last[..2].to_vec()), (vec![0x7c, 0x85], vec![0x7c, 0x45]));
    assert!(fragments[1..].iter().all(|payload| payload[..2] == [0x7c, 0x05]));
    // One that has its own gets no others.
    let mut own = picture(0, true, &[50]);
    own.payload = [&hex("00000004 6742c00d")[..], &own.payload].concat().into();
    assert_eq!(packetize(&track(), &own, MAX_PAYLOAD_LEN, true)[0][..], hex("6742c00d"));
}

#[test]
fn sei_goes_out_unless_told_otherwise() {
    let mut frame = picture(1, false, &[9]);
    frame.payload =
        [&hex("00000002 09f0 00000004 06050080")[..], &frame.payload, &hex("00000002 0680")].concat().into();
    let types = |keep_sei| {
        let payloads = packetize(&track(), &frame, MAX_PAYLOAD_LEN, keep_sei);
        payloads.iter().map(|payload| payload[0] & 31).collect::<Vec<_>>()
    };
    assert_eq!((types(true), types(false)), (vec![6, 1, 6], vec![1]));
    frame.payload = Bytes::from(hex("00000004 06050080"));
    assert!(packetize(&track(), &frame, MAX_PAYLOAD_LEN, false).is_empty());
}

#[test]
fn nothing_is_sent_of_what_is_broken() {
    let frame = |payload: &[u8]| Frame { payload: Bytes::copy_from_slice(payload), ..picture(0, true, &[]) };
    for payload in ["", "00000002 09f0", "000000ff 65", "00000001 7c"] {
        assert!(packetize(&track(), &frame(&hex(payload)), MAX_PAYLOAD_LEN, true).is_empty(), "{payload}");
    }
    let broken = Track { config: Bytes::new(), ..track() };
    assert!(packetize(&broken, &picture(0, true, &[9]), MAX_PAYLOAD_LEN, true).is_empty());
}

#[test]
fn any_lost_packet_costs_its_picture_and_those_to_the_next_keyframe() {
    let frames: Vec<Frame> = (0..3).flat_map(group).collect();
    let all = packets(&frames, 65_530);
    // A group is a STAP-A, four fragments, and three times two fragments and a slice.
    assert_eq!(all.len(), 3 * (5 + 3 * 3));
    for lost in 14..28 {
        let mut some = all.clone();
        some.remove(lost);
        let (media, receiver) = receive(&some);
        let in_group = lost - 14;
        let whole = if in_group < 5 { 0 } else { 1 + (in_group - 5) / 3 };
        let expected: Vec<&Frame> = frames[..4 + whole].iter().chain(&frames[8..]).collect();
        assert_eq!(seen(&media), sent(&expected), "{lost}");
        assert_eq!((receiver.stats().lost, receiver.wants_keyframe()), (1, false));
    }
    let (_, receiver) = receive(&[&all[..16], &all[17..20]].concat());
    assert!(receiver.wants_keyframe());
}

#[test]
fn disorder_is_put_right() {
    let frames: Vec<Frame> = (0..3).flat_map(group).collect();
    let mut all = packets(&frames, 65_530);
    // The first stands where it is: it says where the stream begins.
    all[1..].chunks_mut(5).for_each(<[Packet]>::reverse);
    let (media, receiver) = receive(&all);
    assert_eq!(seen(&media), sent(&frames.iter().collect::<Vec<_>>()));
    assert_eq!(receiver.stats().lost, 0);
}

#[test]
fn waits_for_a_keyframe_and_parameter_sets() {
    let mut all = packets(&group(0), 0);
    let (media, receiver) = receive(&all[5..]);
    assert_eq!((media, receiver.wants_keyframe()), (vec![], true));
    let (media, _) = receive(&all[1..]);
    assert_eq!(media, []);
    // Parameter sets may come by themselves, with a marker, and padding in between.
    all[0].header.marker = true;
    all[0].header.timestamp = 7;
    all.iter_mut().skip(1).for_each(|packet| packet.header.sequence += 1);
    let padding = Packet { header: Header { sequence: 1, ..all[0].header }, payload: Bytes::new() };
    all.insert(1, padding);
    let (media, _) = receive(&all);
    assert_eq!((seen(&media).len(), &media[0]), (4, &Media::Track(track())));
}

#[test]
fn a_picture_beyond_the_bound_is_left_out() {
    let mut depacketizer = Depacketizer::new(3000);
    let (mut out, mut wrong) = (VecDeque::new(), 0);
    let frames = [picture(0, true, &[4000]), picture(1, true, &[2000])];
    for packet in packets(&frames, 0) {
        let at = Timestamp::from_ticks(packet.header.timestamp.into(), h264::HZ);
        let sequence = packet.header.sequence.into();
        wrong += u32::from(depacketizer.push(sequence, at, packet.header.marker, &packet.payload, &mut out).is_err());
    }
    assert_eq!((out.len(), wrong, depacketizer.dropped), (2, 1, 1));
}

/// What a depacketizer makes of payloads in a row, the last with the marker.
fn depacketize(payloads: &[&[u8]]) -> (Vec<Media>, Vec<h264::PayloadError>) {
    let (mut depacketizer, mut out, mut errors) = (Depacketizer::new(1 << 20), VecDeque::new(), Vec::new());
    for (n, payload) in payloads.iter().enumerate() {
        let marker = n + 1 == payloads.len();
        errors.extend(depacketizer.push(n as i64, Timestamp::ZERO, marker, payload, &mut out).err());
    }
    (out.into(), errors)
}

#[test]
fn payloads_that_are_not_of_mode_1_are_refused() {
    let sets = packetize(&track(), &picture(0, true, &[20]), MAX_PAYLOAD_LEN, true)[0].clone();
    let (media, errors) = depacketize(&[&sets, &[0x65, 1, 2]]);
    assert_eq!((media.len(), errors), (2, vec![]));
    use h264::PayloadError::*;
    // STAP-B, MTAP16, MTAP24, FU-B, and what is not assigned.
    for kind in [25, 26, 27, 29, 30, 31, 0] {
        let payload = [0x60 | kind, 0, 1, 0, 2, 0x65, 1];
        let (media, errors) = depacketize(&[&sets, &payload, &[0x65, 1, 2]]);
        assert_eq!((media, errors), (vec![], vec![Type(kind)]));
    }
    for (payload, error) in [
        (&hex("78 0003 6501")[..], Aggregate { len: 3, left: 2 }),
        (&hex("78 0002 6501 00"), Aggregate { len: 2, left: 1 }),
        (&hex("7c"), Empty),
        (&hex("7c 05 01"), NoStart),
        (&hex("7c 45 01"), NoStart),
    ] {
        assert_eq!(depacketize(&[&sets, payload, &[0x65, 1, 2]]), (vec![], vec![error]));
    }
    // A fragment that begins twice, and one that another unit ends.
    let start = hex("7c 85 01");
    assert_eq!(depacketize(&[&sets, &start, &start]), (vec![], vec![NoStart]));
    assert_eq!(depacketize(&[&sets, &start, &[0x65, 1]]), (vec![], vec![NoStart]));
    // One that never ends.
    assert_eq!(depacketize(&[&sets, &start]), (vec![], vec![]));
}

#[test]
fn signalled_parameter_sets_serve_until_the_streams_own_come() {
    let own = packetize(&track(), &picture(0, true, &[20]), MAX_PAYLOAD_LEN, true)[0].clone();
    let (sps, pps) = (hex("674d400de98283f60220000003002000000641e28527"), hex("68ebe3cb20"));
    let other = avc::track(avc::config_record(&sps, &pps)).unwrap();
    let offered = [&[0, 0, 0, 1][..], &sps, &[0, 0, 0, 1], &pps].concat();
    let tracks = |payloads: &[&[u8]]| -> Vec<Track> {
        let (mut depacketizer, mut out) = (Depacketizer::new(1 << 20), VecDeque::new());
        depacketizer.offer(&offered);
        for (n, payload) in payloads.iter().enumerate() {
            // A set belongs to the picture after it.
            let at = Timestamp::from_ms(payloads[..n].iter().filter(|payload| payload[0] & 31 < 6).count() as i64);
            depacketizer.push(n as i64, at, payload[0] & 31 < 6, payload, &mut out).unwrap();
        }
        out.into_iter().filter_map(|media| if let Media::Track(track) = media { Some(track) } else { None }).collect()
    };
    assert_eq!(tracks(&[&[0x65, 1]]), slice::from_ref(&other));
    // Also where the first picture cannot be shown yet.
    assert_eq!(tracks(&[&[0x41, 1], &[0x65, 1]]), slice::from_ref(&other));
    assert_eq!(tracks(&[&own, &[0x65, 1]]), [track()]);
    assert_eq!(tracks(&[&[0x65, 1], &own, &[0x65, 1]]), [other, track()]);
}

#[test]
fn pictures_out_of_their_turn_get_decoding_times() {
    // x264 states one picture of reordering here.
    let (sps, pps) = (hex("674d400de98283f60220000003002000000641e28527"), hex("68ebe3cb20"));
    let track = avc::track(avc::config_record(&sps, &pps)).unwrap();
    let order = [0, 3, 1, 2, 6, 4, 5, 7];
    let (start, mut receiver) = (Instant::now(), Receiver::h264(Instant::now()));
    let mut sequence = 0;
    for (n, at) in order.into_iter().enumerate() {
        for payload in packetize(&track, &picture(at, n == 0, &[500]), MAX_PAYLOAD_LEN, true) {
            let marker = payload[0] & 31 < 6;
            let header = Header { marker, sequence, timestamp: 77 + 3000 * at as u32, ..Header::default() };
            receiver.input(start + Duration::from_millis(33 * n as u64), Packet { header, payload });
            sequence += 1;
        }
    }
    let media = std::iter::from_fn(|| receiver.poll()).filter_map(|media| match media {
        Media::Frame(frame) => Some((frame.dts.as_ticks(h264::HZ), frame.pts.as_ticks(h264::HZ))),
        _ => None,
    });
    let (dts, pts): (Vec<_>, Vec<_>) = media.unzip();
    assert_eq!(pts, order.map(|at| at * 3000));
    assert_eq!(dts, [-90, 0, 3000, 6000, 9000, 12000, 15000, 18000]);
}

/// Sound packets with first bytes and timestamps as told, and what a receiver for one channel makes of them.
fn sound(packets: &[(&[u8], u32)]) -> (Vec<Media>, Receiver) {
    let start = Instant::now();
    let mut receiver = Receiver::opus(start, 1);
    for (n, (payload, timestamp)) in packets.iter().enumerate() {
        let header = Header { sequence: n as u16, timestamp: *timestamp, ..Header::default() };
        let now = start + Duration::from_micros(u64::from(timestamp.wrapping_sub(packets[0].1)) * 1000 / 48);
        receiver.input(now, Packet { header, payload: Bytes::copy_from_slice(payload) });
    }
    (std::iter::from_fn(|| receiver.poll()).collect(), receiver)
}

#[test]
fn sound_packets_of_all_lengths_and_silence_keep_their_times() {
    // 10, 20, 40 and 60 ms, then silence of 400 ms and more with comfort noise of one byte (RFC 7587 §3.1.3).
    let times = [0, 480, 1440, 3360, 6240, 6240 + 19_200, 6240 + 2 * 19_200, 6240 + 48_000 * 30];
    let packets = times.map(|time: u32| (&[0x08u8, 1][..time as usize % 2 + 1], time.wrapping_sub(2000)));
    let (media, receiver) = sound(&packets);
    assert_eq!(media[0], Media::Track(opus::track(1)));
    let at = media.iter().filter_map(|media| match media {
        Media::Frame(frame) => Some(frame.pts.as_ticks(opus::HZ)),
        _ => None,
    });
    assert_eq!(at.collect::<Vec<_>>(), times.map(i64::from));
    assert_eq!(receiver.stats(), Stats { packets: 8, ..Stats::default() });
}

#[test]
fn sound_becomes_a_track_of_two_channels_where_a_packet_has_two() {
    let tracks = |media: Vec<Media>| -> Vec<Track> {
        media.into_iter().filter_map(|media| if let Media::Track(track) = media { Some(track) } else { None }).collect()
    };
    let (mono, stereo): (&[u8], &[u8]) = (&[0x78, 1], &[0x7c, 1]);
    assert_eq!(tracks(sound(&[(mono, 0), (mono, 960)]).0), [opus::track(1)]);
    assert_eq!(tracks(sound(&[(stereo, 0), (mono, 960)]).0), [opus::track(2)]);
    assert_eq!(tracks(sound(&[(mono, 0), (stereo, 960), (mono, 1920)]).0), [opus::track(1), opus::track(2)]);
}

/// Packets behind 16-bit lengths, as a mutation may change.
fn framed(packets: &[Packet]) -> Vec<u8> {
    let bytes = packets.iter().map(Packet::to_bytes);
    bytes.flat_map(|bytes| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).collect()
}

/// Both receivers get what `bytes` frame, 5 ms apart, with reports and a restart between; media must be sane.
fn judge(bytes: &[u8]) {
    let start = Instant::now();
    let (mut pictures, mut sound, mut rest) = (Receiver::h264(start), Receiver::opus(start, 2), bytes);
    let (mut now, mut seed, mut last) = (start, 0u32, [None; 2]);
    pictures.offer(&bytes[..bytes.len().min(60)]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*length)).min(after.len());
        if let Ok(packet) = Packet::parse(&Bytes::copy_from_slice(&after[..len])) {
            seed = seed.wrapping_mul(31).wrapping_add(packet.header.timestamp);
            sound.report(seed, Timestamp::from_ticks(seed.into(), 48_000));
            pictures.report(packet.header.timestamp, Timestamp::from_ms(seed.into()));
            pictures.follow(&sound);
            if seed.is_multiple_of(7) {
                pictures.restart();
            }
            sound.input(now, packet.clone());
            pictures.input(now, packet);
        }
        now += Duration::from_millis(5);
        rest = &after[len..];
    }
    for (n, receiver) in [&mut pictures, &mut sound].into_iter().enumerate() {
        receiver.expire(now + Duration::from_secs(1));
        assert_eq!(receiver.deadline(), None);
        while let Some(media) = receiver.poll() {
            let Media::Frame(frame) = media else { continue };
            assert!(frame.payload.len() <= bytes.len() * 2 && !frame.payload.is_empty());
            assert!(frame.dts <= frame.pts, "{frame:?}");
            // Sound never goes back; pictures do by what B pictures may, where their source does.
            let bound = if n == 0 { clock::MAX_BACK } else { Timestamp::ZERO };
            assert!(last[n].is_none_or(|last| frame.dts + bound >= last), "{frame:?} after {:?}", last[n]);
            last[n] = Some(frame.dts);
            bframes::is_reference(&frame.payload, 4);
            packetize(&track(), &frame, 24, true);
        }
    }
}

#[test]
fn hostile_packets_do_not_panic() {
    let frames =
        [picture(0, true, &[60]), picture(1, false, &[30, 8]), picture(3, false, &[9]), picture(2, false, &[9])];
    let mut packets: Vec<Packet> = Vec::new();
    for frame in &frames {
        for payload in packetize(&track(), frame, 24, true) {
            let sequence = 65_530u16.wrapping_add(packets.len() as u16);
            let timestamp = frame.pts.as_ticks(h264::HZ) as u32;
            packets.push(Packet { header: Header { sequence, timestamp, ..Header::default() }, payload });
        }
    }
    mutations(&framed(&packets), 100_000, judge);
}

#[test]
fn wild_sequence_numbers_and_timestamps_do_not_panic() {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u32
    };
    for _ in 0..500 {
        let mut packets = packets(&group(0), 0);
        for _ in 0..3 {
            packets.extend(packets.clone());
        }
        for packet in &mut packets {
            match random() % 8 {
                0 => packet.header.sequence = random() as u16,
                1 => packet.header.timestamp = random(),
                2 => packet.header.timestamp = packet.header.timestamp.wrapping_add(random() % 200_000),
                3 => packet.header.marker ^= true,
                4 => packet.payload = packet.payload.slice(..random() as usize % (packet.payload.len() + 1)),
                _ => {}
            }
        }
        judge(&framed(&packets));
    }
}

#[test]
fn hostile_frames_do_not_panic() {
    mutations(&picture(0, true, &[300, 9]).payload, 20_000, |bytes| {
        let frame = Frame { payload: Bytes::copy_from_slice(bytes), ..picture(0, true, &[]) };
        let payloads = packetize(&track(), &frame, 100, true);
        assert!(payloads.iter().all(|payload| (1..=100).contains(&payload.len())));
    });
}
