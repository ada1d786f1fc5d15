//! Reading tapes: the newest state of a room, and whole recordings.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    Error, Line,
    line::{VERSION, VersionOnly},
};
use crate::room::state::State;

/// What one segment holds: its head, the state at its start, the lines behind them.
#[derive(Debug)]
pub struct Recording {
    pub head: Line,
    pub state: State,
    pub lines: Vec<Line>,
}

impl Recording {
    /// The state that the segment leads to.
    pub fn fold(&self) -> State {
        let mut state = self.state.clone();
        for line in &self.lines {
            match line {
                Line::Event { event, left_out } => state.fold(event, !left_out),
                Line::Tally { likes, .. } => state.likes = *likes,
                _ => {}
            }
        }
        state
    }
}

/// The segments of a room's folder in their order.
pub(super) fn numbers(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let at = |source| Error::Io { path: folder.to_owned(), source };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(at(e)),
    };
    let mut found = Vec::new();
    for file in listing {
        let path = file.map_err(at)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".jsonl.zst"));
        if let Some(number) = number.and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest state that a room's folder leads to. A segment that was torn before its state was written is passed by.
pub fn newest(folder: &Path) -> Result<Option<State>, Error> {
    for (_, path) in numbers(folder)?.iter().rev() {
        if let Some(recording) = recording(path)? {
            return Ok(Some(recording.fold()));
        }
    }
    Ok(None)
}

/// Reads one segment, packed or not. `None` when it ends before its state. The last line is left out when a crash
/// tore it; any other line that cannot be read is an error that names the place.
pub fn recording(path: &Path) -> Result<Option<Recording>, Error> {
    let at = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(at)?;
    let reader: Box<dyn BufRead> = match path.extension().is_some_and(|e| e == "zst") {
        true => Box::new(BufReader::new(zstd::Decoder::new(file).map_err(at)?)),
        false => Box::new(BufReader::new(file)),
    };
    let mut lines = Vec::new();
    let mut lines_in = LinesIn { reader, path, number: 0 };
    while let Some(line) = lines_in.next()? {
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    Ok(match (lines.next(), lines.next()) {
        (Some(head @ Line::Head { .. }), Some(Line::Snapshot { state, stock })) => {
            Some(Recording { head, state: State { stock, ..*state }, lines: lines.collect() })
        }
        _ => None,
    })
}

struct LinesIn<'a> {
    reader: Box<dyn BufRead>,
    path: &'a Path,
    number: usize,
}

impl LinesIn<'_> {
    fn next(&mut self) -> Result<Option<Line>, Error> {
        let mut text = Vec::new();
        let at = |source| Error::Io { path: self.path.to_owned(), source };
        self.reader.read_until(b'\n', &mut text).map_err(at)?;
        if text.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.number += 1;
        let unreadable = |why: String| Error::Unreadable { path: self.path.to_owned(), line: self.number, why };
        let version: VersionOnly = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
        if version.v > VERSION {
            return Err(Error::Newer { path: self.path.to_owned(), found: version.v, known: VERSION });
        }
        serde_json::from_slice(&text).map(Some).map_err(|e| unreadable(e.to_string()))
    }
}
