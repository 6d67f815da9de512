//! The process's own metrics: each by name, and what it says. Where a value comes about the metric is set by its name.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::warn;

/// Those that end in `_total` count, the others go up and down.
const METRICS: [(&str, &str); 59] = [
    ("shardcast_access_denied_total", "Clients that security or refer kept out."),
    ("shardcast_address_refusals_total", "Connections of addresses that had max_connections_per_ip."),
    ("shardcast_api_denied_total", "API requests without the right credentials."),
    ("shardcast_clients_kicked_total", "Clients ended through the API."),
    ("shardcast_connections", "Connections of media, by shard."),
    ("shardcast_connections_passed_total", "Fresh connections handed to a shard with less to do."),
    ("shardcast_connections_refused_total", "Connections beyond a bound, or to a server that was ending."),
    ("shardcast_events_lost_total", "Events that found the queue of who follows them full."),
    ("shardcast_files_failed_total", "Files of HLS that could not be written."),
    ("shardcast_full", "1 while the shard takes no viewers."),
    ("shardcast_heartbeats_total", "Heartbeats, by result."),
    ("shardcast_hls_bytes", "Bytes of HLS segments in memory."),
    ("shardcast_hls_segments_total", "HLS segments made."),
    ("shardcast_hls_viewers", "Viewers by HLS, where hls_ctx is on."),
    ("shardcast_hooks_failed_total", "HTTP callbacks that were not answered with a yes."),
    ("shardcast_hooks_total", "HTTP callbacks, by event."),
    ("shardcast_lateness_seconds", "How late the shard's ticks come by its own work, in the mean of a second."),
    ("shardcast_log_lines_lost_total", "Lines of the log that found its queue full, or could not be written."),
    ("shardcast_mesh_frames_total", "Frames sent to other shards."),
    ("shardcast_mesh_skips_total", "Skips on the way to another shard."),
    ("shardcast_publishers", "Publishers of streams whose home the shard is."),
    ("shardcast_read_span_seconds", "Between two reads of one publisher."),
    ("shardcast_received_bytes_total", "Bytes received over connections of media."),
    ("shardcast_reconnect_requests_total", "Clients asked to go elsewhere when a graceful end began."),
    ("shardcast_recorded_bytes_total", "Bytes of recordings written."),
    ("shardcast_recording_errors_total", "Recordings that ended with an error of the disk."),
    ("shardcast_recording_skips_total", "Skips of recordings that the disk was too slow for."),
    ("shardcast_recordings", "Recordings being written."),
    ("shardcast_recordings_closed_total", "Recordings finished."),
    ("shardcast_recordings_opened_total", "Recordings begun."),
    ("shardcast_reloads_total", "Readings of the configuration, by result."),
    ("shardcast_republishes_total", "Streams without publisher that waited for the next one, by result."),
    ("shardcast_ring_bytes", "Bytes of frames that streams keep at home."),
    ("shardcast_rtc_bframes_dropped_total", "B-frames left out for WebRTC."),
    ("shardcast_rtc_claims_dropped_total", "STUN requests of strangers that nobody was asked about."),
    ("shardcast_rtc_keyframe_requests_total", "Keyframes asked of WebRTC publishers."),
    ("shardcast_rtc_nacks_sent_total", "Packets asked again of WebRTC publishers."),
    ("shardcast_rtc_packets_lost_total", "Packets of WebRTC publishers that never came."),
    ("shardcast_rtc_packets_received_total", "Packets of WebRTC publishers."),
    ("shardcast_rtc_unsent_total", "WebRTC packets that the kernel did not take."),
    ("shardcast_sent_bytes_total", "Bytes sent over connections of media, and by HLS."),
    ("shardcast_session_errors_total", "Sessions that ended with an error, by protocol."),
    ("shardcast_session_panics_total", "Panics that ended a session or a stream. Please report them."),
    ("shardcast_shard_load", "Share of a core that the shard had in the last second, 0 to 1."),
    ("shardcast_sound_bad_frames_total", "Frames of sound that could not be transcoded."),
    ("shardcast_sound_dropped_total", "Frames of sound that transcoding was too slow for."),
    ("shardcast_streams", "Streams that the shard knows, mirrors included."),
    ("shardcast_streams_refused_total", "Publishers and viewers of streams that a shard had no place for."),
    ("shardcast_tls_handshakes_total", "TLS handshakes, by result."),
    ("shardcast_tls_reloads_total", "Changes of certificate files, by result."),
    ("shardcast_track_switches_total", "Viewers that went on with other tracks of their stream."),
    ("shardcast_transcoded_frames_total", "Frames of sound transcoded."),
    ("shardcast_transcoders", "Streams whose sound is being transcoded, by what it becomes."),
    ("shardcast_viewer_drops_total", "What viewers did not get, by the reason: frames, of SRT packets."),
    ("shardcast_viewer_skips_total", "Skips of viewers that were too far behind."),
    ("shardcast_viewers", "Viewers on the shard, those by HLS not among them."),
    ("shardcast_viewers_given_up_total", "Viewers closed because they did not read what they were sent."),
    ("shardcast_viewers_refused_total", "Viewers that found no time or no place, by protocol."),
    ("shardcast_window_seconds", "How long frames gather at the least, as the shard has time for."),
];

/// The process has one recorder; a second server in it, as tests have, shares the first one's.
pub fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        warn!("another server of this process has the metrics");
    }
    for (name, help) in METRICS {
        match name.ends_with("_total") {
            true => metrics::describe_counter!(name, help),
            false => metrics::describe_gauge!(name, help),
        }
    }
    handle
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// Names between quotes in all sources below `folder` but this one.
    fn used(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                used(&path, names);
            } else if !path.ends_with("launch/metrics.rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let quoted = text.split('"').filter(|word| word.starts_with("shardcast_"));
                names.extend(
                    quoted
                        .filter(|word| !word.contains(|c: char| c != '_' && !c.is_ascii_lowercase()))
                        .map(str::to_owned),
                );
            }
        }
    }

    #[test]
    fn each_metric_is_described() {
        let mut names = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        let described: BTreeSet<_> = METRICS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names, described);
        assert_eq!(described.len(), METRICS.len(), "one is there twice");
    }
}
