//! Container logs: CRI's line format, options of `kubectl logs`, and following a file.
//!
//! Must not know: HTTP, or which file belongs to which container. A newcomer's trap: one line of
//! output can be several lines of the file (`P` for a part, `F` for the end), and with timestamps
//! only a whole line begins with one.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;

use crate::limits::LOG_LINE_BYTES_MAX;

/// How often a followed file is looked at for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// Block in which the end of a file is searched for line ends.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// What part of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on as it grows.
    pub follow: bool,
    /// Of the run before the present one.
    pub previous: bool,
    /// The last lines only.
    pub tail: Option<u64>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only this stream: `stdout` or `stderr`.
    pub stream: Option<String>,
}

impl LogOptions {
    /// Reads a query string. `now` is what `sinceSeconds` counts from.
    pub fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            let number = || -> Result<u64, String> {
                value.parse().map_err(|_| {
                    format!("Invalid value: {value:?}: {key} must be a non-negative integer")
                })
            };
            let flag = || -> Result<bool, String> {
                match value.as_str() {
                    "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                    _ => Err(format!("Invalid value: {value:?}: {key} must be true or false")),
                }
            };
            match key {
                "follow" => options.follow = flag()?,
                "previous" => options.previous = flag()?,
                "timestamps" => options.timestamps = flag()?,
                "tailLines" => options.tail = Some(number()?),
                "limitBytes" => match number()? {
                    0 => return Err("Invalid value: 0: must be greater than 0".to_owned()),
                    bytes => options.limit_bytes = Some(bytes),
                },
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    let from = now.as_second().saturating_sub(seconds);
                    options.since = Some(Timestamp::from_second(from).unwrap_or(Timestamp::MIN));
                }
                "sinceTime" => {
                    let at = value.parse();
                    options.since = Some(
                        at.map_err(|_| format!("Invalid value: {value:?}: no RFC 3339 time"))?,
                    );
                }
                "stream" => match value.as_str() {
                    "" | "All" => {}
                    "Stdout" => options.stream = Some("stdout".to_owned()),
                    "Stderr" => options.stream = Some("stderr".to_owned()),
                    _ => {
                        return Err(format!(
                            "Unsupported value: {value:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                        ));
                    }
                },
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Undoes percent-encoding and `+`; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One line of a CRI log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    /// Whether the output's line goes on in the file's next line.
    partial: bool,
    text: &'a [u8],
}

/// Takes a file's line apart. None: it is not in CRI's format (half-written, or not a log).
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    let known = matches!(stream, "stdout" | "stderr");
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    (known && time.len() >= 20).then_some(Line { time, stream, partial, text })
}

/// Chooses lines and puts them together again.
struct Selector<'a> {
    options: &'a LogOptions,
    left: u64,
    in_line: bool,
}

impl<'a> Selector<'a> {
    fn new(options: &'a LogOptions) -> Self {
        Self { options, left: options.limit_bytes.unwrap_or(u64::MAX), in_line: false }
    }

    /// What a line of the file contributes.
    fn take(&mut self, raw: &[u8]) -> Option<Bytes> {
        let line = parse(raw)?;
        if self.options.stream.as_deref().is_some_and(|wanted| wanted != line.stream) {
            return None;
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return None;
        }
        let mut out = Vec::with_capacity(raw.len());
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.in_line = line.partial;
        out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= out.len() as u64;
        (!out.is_empty()).then(|| Bytes::from(out))
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }
}

/// Reads a log file into `out` until its end; with `follow` until `ended` says that nothing more
/// will be written, or nobody listens any more.
pub async fn read<F, E>(
    path: PathBuf,
    options: LogOptions,
    out: mpsc::Sender<Bytes>,
    mut ended: F,
) -> std::io::Result<()>
where
    F: FnMut() -> E + Send,
    E: Future<Output = bool> + Send,
{
    let mut selector = Selector::new(&options);
    let mut file = File::open(&path).await?;
    if let Some(lines) = options.tail {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        // Asked before reading: what was written before the end is then surely read.
        let is_ended = !options.follow || ended().await;
        loop {
            let limit = (LOG_LINE_BYTES_MAX - line.len()) as u64;
            let count = (&mut reader).take(limit).read_until(b'\n', &mut line).await?;
            let complete = line.ends_with(b"\n") || line.len() >= LOG_LINE_BYTES_MAX;
            if count == 0 || (!complete && !is_ended) {
                break;
            }
            let taken = selector.take(&line);
            line.clear();
            if let Some(bytes) = taken
                && out.send(bytes).await.is_err()
            {
                return Ok(());
            }
            if selector.is_full() {
                return Ok(());
            }
        }
        if is_ended || out.is_closed() {
            return Ok(());
        }
        // A rotated file is another file under the same name: read on there from its start.
        if let Some(next) = replaced(&reader, &path).await {
            reader = BufReader::new(next);
            line.clear();
            continue;
        }
        tokio::select! {
            () = out.closed() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
    }
}

/// The file now under this name, if it is another than the one being read.
async fn replaced(reader: &BufReader<File>, path: &Path) -> Option<File> {
    use std::os::unix::fs::MetadataExt as _;

    let current = reader.get_ref().metadata().await.ok()?.ino();
    let named = tokio::fs::metadata(path).await.ok()?.ino();
    if named == current { None } else { File::open(path).await.ok() }
}

/// Where the last `lines` lines of a file begin.
async fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let size = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(size);
    }
    let mut end = size;
    let mut ends_seen = 0u64;
    while end > 0 {
        let begin = end.saturating_sub(TAIL_BLOCK_BYTES);
        let mut block = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut block).await?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let at = begin + index as u64;
            // The end of the last line does not begin another.
            if at + 1 == size {
                continue;
            }
            ends_seen += 1;
            if ends_seen == lines {
                return Ok(at + 1);
            }
        }
        end = begin;
    }
    Ok(0)
}

/// The text of the last lines of a log, bounded, for termination messages. Blocking.
pub(crate) fn tail_text(path: &Path, lines: usize, bytes_max: usize) -> String {
    use std::io::{Read as _, Seek as _};

    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let size = file.metadata().map_or(0, |it| it.len());
    let begin = size.saturating_sub(TAIL_BLOCK_BYTES);
    let mut raw = Vec::new();
    if file.seek(SeekFrom::Start(begin)).is_err() || file.read_to_end(&mut raw).is_err() {
        return String::new();
    }
    let everything = LogOptions::default();
    let mut selector = Selector::new(&everything);
    let all: Vec<&[u8]> = raw.split_inclusive(|byte| *byte == b'\n').collect();
    let first = all.len().saturating_sub(lines);
    let text: Vec<u8> = all[first..].iter().filter_map(|it| selector.take(it)).flatten().collect();
    let cut = text.len().saturating_sub(bytes_max);
    String::from_utf8_lossy(&text[cut..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:01.000000001Z stdout F one\n\
2026-01-01T00:00:02.000000001Z stderr F two\n\
2026-01-01T00:00:03.000000001Z stdout P thr\n\
2026-01-01T00:00:03.000000002Z stdout F ee\n\
not a log line\n\
2026-01-01T00:00:04.000000001Z stdout F \n";

    async fn selected(query: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LOG).unwrap();
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        let options = LogOptions::parse(query, now).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        read(file.path().to_owned(), options, sender, || async { true }).await.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn options_choose_as_kubectl_logs_does() {
        let cases = [
            ("", "one\ntwo\nthree\n\n"),
            ("tailLines=1", "\n"),
            ("tailLines=3", "ee\n\n"),
            ("tailLines=0", ""),
            ("tailLines=100", "one\ntwo\nthree\n\n"),
            ("limitBytes=6", "one\ntw"),
            ("sinceTime=2026-01-01T00:00:03Z", "three\n\n"),
            ("sinceTime=2026-01-01T00%3A00%3A04Z", "\n"),
            ("sinceSeconds=3", "two\nthree\n\n"),
            ("stream=Stderr", "two\n"),
            (
                "timestamps=true&tailLines=4&limitBytes=38",
                "2026-01-01T00:00:03.000000001Z three\n2",
            ),
        ];
        for (query, wanted) in cases {
            let wanted = if query.starts_with("timestamps") { &wanted[..37] } else { wanted };
            let got = selected(query).await;
            let got = if query.starts_with("timestamps") { &got[..37] } else { &got };
            assert_eq!(got, wanted, "{query}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        let now = Timestamp::UNIX_EPOCH;
        for query in ["tailLines=-1", "tailLines=x", "limitBytes=0", "sinceTime=monday", "follow=9"]
        {
            assert!(LogOptions::parse(query, now).is_err(), "{query}");
        }
    }

    #[tokio::test]
    async fn a_followed_file_is_read_over_a_rotation_to_its_end() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:01.000000001Z stdout F {text}\n");
        std::fs::write(&path, line("one")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let (sender, mut receiver) = mpsc::channel(64);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let reading = read(path.clone(), options, sender, move || {
            let is_over = is_over.clone();
            async move { is_over.load(Ordering::SeqCst) }
        });
        let acting = async {
            assert_eq!(receiver.recv().await.unwrap(), "one\n");
            std::fs::rename(&path, folder.path().join("0.log.1")).unwrap();
            std::fs::write(&path, line("two")).unwrap();
            assert_eq!(receiver.recv().await.unwrap(), "two\n");
            over.store(true, Ordering::SeqCst);
            assert_eq!(receiver.recv().await, None);
        };
        let (result, ()) = tokio::join!(reading, acting);
        result.unwrap();
    }

    #[test]
    fn the_last_words_are_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LOG).unwrap();
        assert_eq!(tail_text(file.path(), 80, 2_048), "one\ntwo\nthree\n\n");
        assert_eq!(tail_text(file.path(), 80, 3), "e\n\n");
        assert_eq!(tail_text(Path::new("/none"), 80, 3), "");
    }
}
