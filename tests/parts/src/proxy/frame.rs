//! Kafka's frames: a length, then a request with its header, or an answer with the number of its request.

use std::io::{self, Read, Write};

/// The largest frame that passes; the brokers' own limit is of this order.
const FRAME_BYTES_MAX: usize = 128 << 20;

/// Kinds of requests that attacks are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// Records.
    Produce,
    /// A producer takes its id.
    InitProducerId,
    /// Partitions become part of the transaction.
    AddPartitionsToTxn,
    /// The transaction is committed or aborted.
    EndTxn,
    /// Everything else.
    Other,
}

impl Api {
    const fn of(key: i16) -> Self {
        match key {
            0 => Self::Produce,
            22 => Self::InitProducerId,
            24 => Self::AddPartitionsToTxn,
            26 => Self::EndTxn,
            _ => Self::Other,
        }
    }
}

/// A request as it travels.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) api: Api,
    pub(super) version: i16,
    pub(super) correlation: i32,
    pub(super) client: String,
    /// With its length.
    pub(super) bytes: Vec<u8>,
}

/// Reads one frame with its length; `None` at the end.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let size = usize::try_from(i32::from_be_bytes(length)).ok().filter(|size| *size <= FRAME_BYTES_MAX);
    let size = size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no frame has this length"))?;
    let mut bytes = length.to_vec();
    bytes.resize(size.saturating_add(4), 0);
    from.read_exact(bytes.split_at_mut(4).1)?;
    Ok(Some(bytes))
}

pub(super) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// The header of a request; `None` if the frame is too short to have one.
pub(super) fn request(bytes: Vec<u8>) -> Option<Request> {
    let short = |at: usize| bytes.get(at..at + 2)?.try_into().ok().map(i16::from_be_bytes);
    let (key, version, name) = (short(4)?, short(6)?, short(12)?);
    let correlation = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let length = usize::try_from(name).unwrap_or(0);
    let client = String::from_utf8_lossy(bytes.get(14..14 + length)?).into_owned();
    Some(Request { api: Api::of(key), version, correlation, client, bytes })
}

/// The number of the request that an answer belongs to.
pub(super) fn correlation(answer: &[u8]) -> Option<i32> {
    answer.get(4..8)?.try_into().ok().map(i32::from_be_bytes)
}

/// The error code in the answer to an `EndTxn` of the versions that librdkafka speaks; 0 means that it was done.
pub(super) fn end_error(request: &Request, answer: &[u8]) -> Option<i16> {
    // Before version 3: the header is the number, then the throttle time, then the code.
    let plain = request.api == Api::EndTxn && request.version < 3;
    if plain { answer.get(12..14)?.try_into().ok().map(i16::from_be_bytes) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&i32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    #[test]
    fn a_request_tells_its_kind_number_and_client() {
        let frame = framed(&[&[0, 26, 0, 1, 0, 0, 0, 9, 0, 4][..], b"lane", &[1, 2, 3]].concat());
        let read = read(&mut frame.as_slice()).unwrap().unwrap();
        assert_eq!(read, frame);
        let request = request(read).unwrap();
        assert_eq!((request.api, request.version, request.correlation), (Api::EndTxn, 1, 9));
        assert_eq!(request.client, "lane");
        let answer = framed(&[0, 0, 0, 9, 0, 0, 0, 0, 0, 48]);
        assert_eq!((correlation(&answer), end_error(&request, &answer)), (Some(9), Some(48)));
    }

    #[test]
    fn what_is_no_frame_is_refused_and_an_end_is_an_end() {
        assert!(read(&mut [0xff_u8; 8].as_slice()).is_err());
        assert!(read(&mut [0_u8, 0, 0, 9, 1].as_slice()).is_err());
        assert!(read(&mut [].as_slice()).unwrap().is_none());
        assert!(request(framed(&[0, 26, 0, 1])).is_none());
    }
}
