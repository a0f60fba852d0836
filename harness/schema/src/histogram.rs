//! Latencies by value, to three digits: the field `histogram` of a document, which is drawn and never judged.
//!
//! The text is base64 of an HDR histogram in its interchange form V2 without compression, of nanoseconds. Other tools read it, and a document
//! from a stranger cannot make it grow: the length in its head is held against what is there, and no count is longer than five bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use std::fmt;

/// How many latencies had which value, each value to [`Histogram::DIGITS`] digits.
#[derive(Clone, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// Bytes of a V2 head: cookie, length of what follows it, offset, digits, least, greatest, ratio.
const HEAD: usize = 40;
const LENGTH: std::ops::Range<usize> = 4..8;
const DIGITS: std::ops::Range<usize> = 12..16;

/// Of a count or a run of zeros; five bytes hold 2³⁵.
const LONGEST_NUMBER: usize = 5;

impl Histogram {
    /// Digits that a value keeps.
    pub const DIGITS: u8 = 3;

    /// Of latencies in nanoseconds.
    pub fn of(latencies_ns: &[u64]) -> Histogram {
        let mut histogram =
            hdrhistogram::Histogram::new(Histogram::DIGITS).expect("three digits are allowed");
        for ns in latencies_ns {
            histogram.record(*ns).expect("it grows to whatever value comes");
        }
        Histogram(histogram)
    }

    /// Reads a text; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Histogram, String> {
        let bytes = STANDARD.decode(text).map_err(|e| format!("no base64: {e}"))?;
        let number = |at| {
            let four = bytes.get(at).and_then(|four: &[u8]| four.try_into().ok());
            four.map(u32::from_be_bytes).ok_or("no whole head")
        };
        let counts = bytes.get(HEAD..).ok_or("no whole head")?;
        let length = usize::try_from(number(LENGTH)?);
        if length != Ok(counts.len()) || number(DIGITS)? != u32::from(Histogram::DIGITS) {
            return Err("its head does not fit to it".into());
        }
        if counts.split(|byte| *byte < 0x80).any(|more| more.len() >= LONGEST_NUMBER) {
            return Err("a count is too large".into());
        }
        let read = Deserializer::new().deserialize(&mut bytes.as_slice());
        let mut histogram: hdrhistogram::Histogram<u64> = read.map_err(|e| e.to_string())?;
        // What was read has room for its own values alone.
        histogram.auto(true);
        Ok(Histogram(histogram))
    }

    /// Adds the latencies of another.
    pub fn add(&mut self, other: &Histogram) {
        self.0.add(&other.0).expect("it grows to whatever value comes");
    }

    /// How many latencies.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value in nanoseconds that such a share of them does not exceed, to three digits.
    pub fn at(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }
}

/// The text, as in a document.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).map_err(|_| fmt::Error)?;
        f.write_str(&STANDARD.encode(bytes))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram of {}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_two_are_as_one_of_all() {
        let [low, high] =
            [1_u64, 501].map(|first| (first..first + 500).map(|n| n * 1000).collect::<Vec<_>>());
        let mut sum = Histogram::read(&Histogram::of(&low).to_string()).unwrap();
        sum.add(&Histogram::of(&high));
        let whole = Histogram::of(&[low, high].concat());
        let mut larger = Histogram::read(&Histogram::of(&[1]).to_string()).unwrap();
        larger.add(&Histogram::of(&[1 << 40]));
        assert!(larger.at(1.0) >= 1 << 40, "a stall that the first worker had not");
        assert!(sum == whole && sum.count() == 1000);
        let middle = sum.at(0.5);
        assert!((500_000..=501_000).contains(&middle), "to three digits: {middle}");
        assert!(whole.to_string().len() < 4000, "{}", whole.to_string().len());
    }

    #[test]
    fn a_strangers_text_is_refused_and_never_believed() {
        let honest = STANDARD.decode(Histogram::of(&[5, 50, 500]).to_string()).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = honest.clone();
            bytes[at] = byte;
            Histogram::read(&STANDARD.encode(bytes))
        };
        assert!(Histogram::read("not base64!").is_err() && Histogram::read("").is_err());
        assert!(Histogram::read(&STANDARD.encode(&honest[..20])).is_err(), "half a head");
        assert!(with(4, 0x7f).unwrap_err().contains("head"), "two thousand million bytes");
        assert!(with(15, 5).unwrap_err().contains("head"), "five digits");
        assert!(with(0, 0).is_err(), "another cookie");
        let mut longest = honest.clone();
        longest.extend([0xff; 9]);
        longest[7] += 9;
        assert!(Histogram::read(&STANDARD.encode(&longest)).unwrap_err().contains("too large"));
        for at in 0..honest.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let _ = with(at, byte).map(|histogram| histogram.at(0.99));
            }
        }
    }
}
