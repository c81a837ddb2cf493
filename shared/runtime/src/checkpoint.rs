//! A checkpoint: the fold of a shard's state partition in a file of this host, so that a takeover reads only what follows it.
//!
//! The file is the magic and the format's number, the head (Protobuf, with its length before it), the records (lengths of key and
//! value, key, value), and BLAKE3 over all of that. Numbers are little endian. A format is never changed, only replaced by
//! the next number; a binary reads its own number and ignores every other.
//!
//! Invariants: a file appears whole or not at all; nothing of it is handed out before its hash is right; it is of the shard and of the
//! log that are asked for. Its hash tells damage, not forgery, and what it holds is as secret as the state: whoever can write
//! here must be trusted like whoever can read the keys. What it says is believed only if the state root at the takeover agrees.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use custos_journal::LogIdentity;
use custos_messages::ShardName;
use custos_saga::machine::StateError;
use prost::Message as _;

use crate::shard::{Folded, Manifest, Seated};
use crate::wire::state as wire;

const MAGIC: &[u8; 18] = b"custos checkpoint\n";
const FORMAT: u32 = 1;
/// The longest head, key or value that is read: above what the log takes as a record.
const LONGEST: u32 = 16 << 20;
const HASH_BYTES: usize = 32;

/// Why there is no usable checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a checkpoint, or of a format that this binary does not read.
    #[error("{} is no checkpoint of format {FORMAT}", .0.display())]
    Format(PathBuf),
    /// The file is damaged.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// The file is of another shard or another log.
    #[error("{} is of another shard or another log", .0.display())]
    Foreign(PathBuf),
    /// The manifest in it cannot be read by this binary.
    #[error("the manifest in {} cannot be read", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StateError,
    },
}

/// The file of `shard` in `folder`.
#[must_use]
pub fn path_of(folder: &Path, shard: ShardName) -> PathBuf {
    folder.join(format!("{}-{}.checkpoint", shard.machine.name(), shard.partition))
}

/// Writes what `folded` holds as of its last manifest, in place of the file that is there; without a manifest nothing happens.
///
/// # Errors
/// The disk. The former file is untouched then.
pub fn write(folder: &Path, shard: ShardName, folded: &Folded) -> Result<(), CheckpointError> {
    let Some(manifest) = folded.manifest() else { return Ok(()) };
    let path = path_of(folder, shard);
    let partial = path.with_extension("partial");
    let failed = |operation| {
        let path = partial.clone();
        move |source| CheckpointError::File { operation, path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed("making the folder of"))?;
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let file = opened.map_err(failed("making"))?;
    let mut out = Hashed::new(BufWriter::new(file));
    put(&mut out, shard, manifest, folded.committed()).map_err(failed("writing"))?;
    let hash = out.hasher.finalize();
    let mut rest = out.inner;
    let durable = rest.write_all(hash.as_bytes()).and_then(|()| rest.flush()).and_then(|()| rest.get_ref().sync_all());
    durable.map_err(failed("writing"))?;
    let moved = std::fs::rename(&partial, &path).and_then(|()| File::open(folder)?.sync_all());
    moved.map_err(failed("moving into its place"))
}

fn put(out: &mut impl Write, shard: ShardName, manifest: &Seated, records: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
    let head = wire::CheckpointHead {
        machine: shard.machine.name().to_owned(),
        partition: shard.partition,
        manifest_offset: manifest.offset,
        manifest: manifest.value.clone(),
        records: u64::try_from(records.len()).unwrap_or(u64::MAX),
    };
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    let head = head.encode_to_vec();
    out.write_all(&length(&head)?)?;
    out.write_all(&head)?;
    for (key, value) in records {
        out.write_all(&length(key)?)?;
        out.write_all(&length(value)?)?;
        out.write_all(key)?;
        out.write_all(value)?;
    }
    Ok(())
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    length.map(u32::to_le_bytes).ok_or_else(|| io::Error::other("a state record is too long for a checkpoint"))
}

/// The checkpoint of `shard` in `folder`, if there is one, to be continued from its manifest on.
///
/// # Errors
/// There is a file, and it cannot be used.
pub fn read(folder: &Path, shard: ShardName, log: &LogIdentity) -> Result<Option<Folded>, CheckpointError> {
    let path = path_of(folder, shard);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::File { operation: "opening", path, source }),
    };
    let (head, records) = take(file, &path)?;
    let shown = Manifest::read(&head.manifest);
    let manifest = shown.map_err(|source| CheckpointError::Manifest { path: path.clone(), source })?;
    if (head.machine.as_str(), head.partition) != (shard.machine.name(), shard.partition) || manifest.log != *log {
        return Err(CheckpointError::Foreign(path));
    }
    let seated = Seated { offset: head.manifest_offset, value: head.manifest };
    Ok(Some(Folded::resting_on(seated, records)))
}

type Contents = (wire::CheckpointHead, BTreeMap<Vec<u8>, Vec<u8>>);

fn take(file: File, path: &Path) -> Result<Contents, CheckpointError> {
    let mut bytes = Hashed::new(BufReader::new(file));
    let mut start = [0; MAGIC.len()];
    let began = bytes.read_exact(&mut start).and_then(|()| number(&mut bytes));
    match began {
        Ok(FORMAT) if start == *MAGIC => {}
        _ => return Err(CheckpointError::Format(path.to_path_buf())),
    }
    let damaged = |_| CheckpointError::Damaged(path.to_path_buf());
    let contents = take_contents(&mut bytes).map_err(damaged)?;
    let hash = bytes.hasher.finalize();
    let mut noted = [0; HASH_BYTES];
    let mut rest = bytes.inner;
    rest.read_exact(&mut noted).map_err(damaged)?;
    let ends = rest.read(&mut [0; 1]).map_err(damaged)? == 0;
    if hash.as_bytes() != &noted || !ends {
        return Err(CheckpointError::Damaged(path.to_path_buf()));
    }
    Ok(contents)
}

fn take_contents(bytes: &mut impl Read) -> io::Result<Contents> {
    let head = number(bytes)?;
    let head = wire::CheckpointHead::decode(piece(bytes, head)?.as_slice()).map_err(io::Error::other)?;
    let mut records = BTreeMap::new();
    for _ in 0..head.records {
        let (key, value) = (number(bytes)?, number(bytes)?);
        let key = piece(bytes, key)?;
        records.insert(key, piece(bytes, value)?);
    }
    Ok((head, records))
}

fn number(bytes: &mut impl Read) -> io::Result<u32> {
    let mut number = [0; 4];
    bytes.read_exact(&mut number)?;
    Ok(u32::from_le_bytes(number))
}

fn piece(bytes: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    if length > LONGEST {
        return Err(io::Error::other("a length that nothing here has"));
    }
    let mut piece = Vec::new();
    bytes.by_ref().take(u64::from(length)).read_to_end(&mut piece)?;
    let whole = u32::try_from(piece.len()) == Ok(length);
    if whole { Ok(piece) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Hashes what passes through.
struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}
