//! Opening the file: reading it from the first frame to the last, and cutting a torn tail.
//!
//! Invariants: a tail is cut only if nothing behind it proves that it had been durable; damage to what was acknowledged refuses to
//! open. What a killed process wrote without a sync is made durable before anyone sees it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::format::{
    ALIGNMENT, FILE_HEADER, FRAME_HEADER, checksum, file_header, read_body, read_file_header, read_frame_header, wide,
};
use super::index::{Index, Place};
use super::{failed, misconfigured};
use crate::JournalError;

/// The file is read in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// What a file said.
pub(super) struct Recovered {
    /// The log's name.
    pub(super) id: [u8; 16],
    /// Everything in it.
    pub(super) index: Index,
    /// Where the next frame goes.
    pub(super) length: u64,
    /// How far the file reaches; zeros from `length` on.
    pub(super) capacity: u64,
}

/// Reads `file`; a new or unfinished one gets its header and the name `fresh`.
pub(super) fn recover(file: &File, fresh: [u8; 16]) -> Result<Recovered, JournalError> {
    let size = size_of(file)?;
    let mut header = vec![0; FILE_HEADER];
    let started = size >= wide(FILE_HEADER);
    if started {
        file.read_exact_at(&mut header, 0).map_err(|source| failed("read the header of the log", source))?;
    }
    if header.iter().all(|byte| *byte == 0) && is_zero(file, 0, size)? {
        file.write_all_at(&file_header(fresh), 0).map_err(|source| failed("write the header of the log", source))?;
        file.sync_all().map_err(|source| failed("write the header of the log", source))?;
        let start = wide(FILE_HEADER);
        return Ok(Recovered { id: fresh, index: Index::default(), length: start, capacity: size.max(start) });
    }
    let id = read_file_header(&header);
    let id = id.ok_or_else(|| misconfigured("the file is not a log of this version, or its header is damaged"))?;
    let (index, length) = scan(file, size)?;
    let capacity = if is_zero(file, length, size)? { size } else { cut(file, length, size)? };
    file.sync_all().map_err(|source| failed("make the log durable", source))?;
    Ok(Recovered { id, index, length, capacity })
}

/// Takes in every intact frame; returns where the first one that is not begins.
fn scan(file: &File, size: u64) -> Result<(Index, u64), JournalError> {
    let mut index = Index::default();
    let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
    let mut place = wide(FILE_HEADER);
    reader.seek(SeekFrom::Start(place)).map_err(|source| failed("read the log", source))?;
    let mut body = Vec::new();
    loop {
        let rest = size.saturating_sub(place + wide(FRAME_HEADER));
        let mut header = [0; FRAME_HEADER];
        if size < place + wide(FRAME_HEADER) {
            return Ok((index, place));
        }
        reader.read_exact(&mut header).map_err(|source| failed("read the log", source))?;
        let Some(frame) = read_frame_header(&header).filter(|frame| frame.length <= rest && frame.durable <= place) else {
            return Ok((index, place));
        };
        body.resize(usize::try_from(frame.length).map_err(|source| failed("read the log", source))?, 0);
        reader.read_exact(&mut body).map_err(|source| failed("read the log", source))?;
        if checksum(place, frame.length, frame.durable, &body) != frame.sum {
            return Ok((index, place));
        }
        let items = read_body(&body).ok_or_else(|| misconfigured("the log holds what this version cannot read"))?;
        let base = place + wide(FRAME_HEADER);
        for (start, length, item) in items {
            let at = Place::new(base + wide(start), wide(length));
            index
                .apply(at, item)
                .map_err(|problem| failed("read the log", format!("{problem}, in the frame at {place}")))?;
        }
        place = base + frame.length;
    }
}

/// Removes everything from `length` on, unless an intact frame behind it says that more had been durable.
fn cut(file: &File, length: u64, size: u64) -> Result<u64, JournalError> {
    let mut place = length;
    let mut piece = vec![0; PIECE_BYTES + FRAME_HEADER];
    while place < size {
        let here = usize::try_from(size - place).unwrap_or(usize::MAX).min(piece.len());
        let bytes = piece.get_mut(..here).unwrap_or_default();
        file.read_exact_at(bytes, place).map_err(|source| failed("read the tail of the log", source))?;
        for start in (0..here.min(PIECE_BYTES)).step_by(ALIGNMENT) {
            let Some(frame) = bytes.get(start..start + FRAME_HEADER).and_then(read_frame_header) else { continue };
            if frame.durable > length && intact(file, place + wide(start), size)? {
                let problem = format!("the log is damaged at byte {length}, which was durable: restore it from a copy");
                return Err(JournalError::Misconfigured(problem));
            }
        }
        place += wide(PIECE_BYTES);
    }
    tracing::warn!(bytes = size - length, "cut a torn tail that had never been acknowledged");
    file.set_len(length).map_err(|source| failed("cut the tail of the log", source))?;
    Ok(length)
}

fn intact(file: &File, place: u64, size: u64) -> Result<bool, JournalError> {
    let mut header = [0; FRAME_HEADER];
    file.read_exact_at(&mut header, place).map_err(|source| failed("read the tail of the log", source))?;
    let base = place + wide(FRAME_HEADER);
    let Some(frame) = read_frame_header(&header).filter(|frame| frame.length <= size - base) else { return Ok(false) };
    let mut body = vec![0; usize::try_from(frame.length).map_err(|source| failed("read the tail of the log", source))?];
    file.read_exact_at(&mut body, base).map_err(|source| failed("read the tail of the log", source))?;
    Ok(checksum(place, frame.length, frame.durable, &body) == frame.sum)
}

fn is_zero(file: &File, from: u64, to: u64) -> Result<bool, JournalError> {
    let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
    reader.seek(SeekFrom::Start(from)).map_err(|source| failed("read the tail of the log", source))?;
    let mut rest = reader.take(to.saturating_sub(from));
    let mut piece = vec![0; ALIGNMENT * 512];
    loop {
        let read = rest.read(&mut piece).map_err(|source| failed("read the tail of the log", source))?;
        if read == 0 {
            return Ok(true);
        }
        if piece.get(..read).unwrap_or_default().iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

fn size_of(file: &File) -> Result<u64, JournalError> {
    Ok(file.metadata().map_err(|source| failed("look at the log", source))?.len())
}

#[cfg(test)]
mod tests {
    use super::super::format::{push_frame, push_topic};
    use super::*;
    use custos_messages::Topic;

    /// A file of three frames, each of which says that one more topic exists; the last two were one group.
    fn file() -> (File, Vec<u8>, Vec<u64>) {
        let mut bytes = file_header([7; 16]);
        let (mut starts, mut durable) = (Vec::new(), wide(bytes.len()));
        for (number, topic) in [Topic::Events, Topic::Addresses, Topic::Quarantine].into_iter().enumerate() {
            let (place, mut body) = (wide(bytes.len()), Vec::new());
            push_topic(&mut body, topic, 1);
            push_frame(&mut bytes, place, durable, body);
            starts.push(place);
            durable = if number == 0 { wide(bytes.len()) } else { durable };
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        (file, bytes, starts)
    }

    fn flip(file: &File, bytes: &[u8], place: u64) {
        let wrong = bytes[usize::try_from(place).unwrap()] ^ 1;
        file.write_all_at(&[wrong], place).unwrap();
    }

    #[test]
    fn a_torn_group_is_cut_even_when_its_end_arrived() {
        let (file, bytes, starts) = file();
        flip(&file, &bytes, starts[1] + 33);
        let found = recover(&file, [0; 16]).unwrap();
        assert_eq!((found.id, found.length, found.capacity), ([7; 16], starts[1], starts[1]));
        assert_eq!(found.index.partitions(Topic::Events), 1);
        assert_eq!(found.index.partitions(Topic::Quarantine), 0);
    }

    #[test]
    fn a_frame_that_a_later_one_calls_durable_is_not_cut() {
        let (file, bytes, starts) = file();
        flip(&file, &bytes, starts[0] + 33);
        assert!(matches!(recover(&file, [0; 16]), Err(JournalError::Misconfigured(_))));
        assert_eq!(size_of(&file).unwrap(), wide(bytes.len()));
    }

    #[test]
    fn an_unfinished_header_is_written_anew() {
        for length in [0, 5, 4_096] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(length).unwrap();
            assert_eq!(recover(&file, [9; 16]).unwrap().id, [9; 16], "{length} zeros");
            assert_eq!(recover(&file, [1; 16]).unwrap().id, [9; 16], "{length} zeros, again");
        }
    }
}
