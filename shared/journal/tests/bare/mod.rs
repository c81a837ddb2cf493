//! Two requests of Kafka's own protocol, for what no client library would send.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::TryFromIntError;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A record with one header. Key and header are short: up to 31 bytes.
pub struct Written<'a> {
    pub key: &'a [u8],
    pub header: &'a [u8],
    /// The transactional id and the producer in whose open transaction it is.
    pub within: Option<(&'a str, Producer)>,
}

/// Id and epoch of a producer.
#[derive(Clone, Copy)]
pub struct Producer {
    id: i64,
    epoch: i16,
}

fn text(text: &str) -> Result<Vec<u8>, TryFromIntError> {
    Ok([&i16::try_from(text.len())?.to_be_bytes(), text.as_bytes()].concat())
}

/// Sends one request and returns the answer after its correlation number.
fn ask(address: &str, api: [u8; 4], body: &[u8]) -> Outcome<Vec<u8>> {
    let request = [&api[..], &[0, 0, 0, 7], &text("bare")?, body].concat();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&[&i32::try_from(request.len())?.to_be_bytes()[..], &request].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4.min(answer.len())))
}

fn at<const N: usize>(answer: &[u8], place: usize) -> Outcome<[u8; N]> {
    Ok(answer.get(place..).and_then(|rest| rest.first_chunk()).copied().ok_or("a short answer")?)
}

fn refused(code: [u8; 2]) -> Outcome<()> {
    match i16::from_be_bytes(code) {
        0 => Ok(()),
        code => Err(format!("the broker refuses: {code}").into()),
    }
}

/// Takes a transactional id: `InitProducerId` version 0, again while the coordinator is busy with the transaction before.
pub fn init_producer(address: &str, id: &str) -> Outcome<Producer> {
    const CONCURRENT: i16 = 51;
    loop {
        let answer = ask(address, [0, 22, 0, 0], &[&text(id)?[..], &10_000_i32.to_be_bytes()].concat())?;
        let code = at(&answer, 4)?;
        if i16::from_be_bytes(code) == CONCURRENT {
            continue;
        }
        refused(code)?;
        return Ok(Producer { id: i64::from_be_bytes(at(&answer, 6)?), epoch: i16::from_be_bytes(at(&answer, 14)?) });
    }
}

/// Writes a record: `Produce` version 3, record batch version 2, the producer's first batch.
pub fn produce(address: &str, (topic, partition): (&str, i32), written: &Written<'_>) -> Outcome<()> {
    // Lengths below 64, zigzag.
    let short = |length: usize| u8::try_from(length << 1);
    let sized = |bytes: &[u8]| Ok::<_, TryFromIntError>([&[short(bytes.len())?], bytes].concat());
    let (key, header) = (sized(written.key)?, sized(written.header)?);
    let record = [&[0, 0, 0], &*key, &*sized(b"value")?, &[short(1)?], &*header, &*sized(b"")?].concat();
    let (attributes, sequence, Producer { id, epoch }) = match written.within {
        Some((_, producer)) => (0x10_i16, 0_i32, producer),
        None => (0, -1, Producer { id: -1, epoch: -1 }),
    };
    // Attributes, last offset delta, both times, producer, epoch and sequence, and one record.
    let zero = 0_i64.to_be_bytes();
    let fields: [&[u8]; 8] = [
        &attributes.to_be_bytes(),
        &[0; 4],
        &zero,
        &zero,
        &id.to_be_bytes(),
        &epoch.to_be_bytes(),
        &sequence.to_be_bytes(),
        &1_i32.to_be_bytes(),
    ];
    let body = [&fields.concat()[..], &sized(&record)?].concat();
    let checked = [&(-1_i32).to_be_bytes()[..], &[2], &crc32c(&body).to_be_bytes(), &body].concat();
    let batch = [&zero[..], &i32::try_from(checked.len())?.to_be_bytes(), &checked].concat();
    let transaction = written.within.map_or(Ok(vec![0xff, 0xff]), |(id, _)| text(id))?;
    let request: [&[u8]; 9] = [
        &transaction,
        &(-1_i16).to_be_bytes(),
        &10_000_i32.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &text(topic)?,
        &1_i32.to_be_bytes(),
        &partition.to_be_bytes(),
        &i32::try_from(batch.len())?.to_be_bytes(),
        &batch,
    ];
    let answer = ask(address, [0, 0, 0, 3], &request.concat())?;
    // One topic, its name, one partition, its number: then the error's code.
    refused(at(&answer, 4 + 2 + topic.len() + 4 + 4)?)
}

/// The checksum of record batches (RFC 3720, appendix B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}
