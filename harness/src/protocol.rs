//! `switchmark.worker/1`: lines of `verb key=value …`, parsed and written in both directions. Pure.
//!
//! Values hold no white space; text is percent-encoded. Unknown keys are ignored, so that either side may be
//! newer; a missing or unreadable key is an error that names it. A program in any language speaks this with
//! its standard library alone: `switchmark schema worker` prints [`GRAMMAR`].

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::fmt;
use switchmark_schema::ParamValue;

/// Protocol name and major version, said in `hello`.
pub const PROTOCOL: &str = "switchmark.worker/1";

/// The protocol as `switchmark schema worker` prints it.
pub const GRAMMAR: &str = include_str!("protocol.txt");

/// Everything that would end a value or a line, and the escape itself.
const RESERVED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'=');

/// What the parent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who are you?
    Hello,
    /// Get ready for this cell.
    Prepare(Prepare),
    /// Work now: the baton is yours until you reply.
    Slice {
        /// Of the model's operation; in `stack.idle` the population to grow to.
        iterations: u64,
    },
    /// Answer and exit 0.
    Finish,
}

/// The cell a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// Workload id.
    pub workload: String,
    /// Model id.
    pub model: String,
    /// Placement.
    pub placement: String,
    /// CPUs of the placement, first the one the worker starts on.
    pub cpus: Vec<usize>,
    /// Parameters in definition order.
    pub params: Vec<(String, ParamValue)>,
}

impl Prepare {
    /// A parameter, if the cell has it.
    pub fn param(&self, name: &str) -> Option<&ParamValue> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// A numeric parameter; the error is the reason of an `unsupported`.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        match self.param(name) {
            Some(ParamValue::Number(n)) => Ok(*n),
            Some(ParamValue::Word(w)) => Err(format!("parameter {name} is `{w}`, not a number")),
            None => Err(format!("parameter {name} is missing")),
        }
    }
}

/// What a worker answers.
#[expect(
    clippy::large_enum_variant,
    reason = "a reply is taken apart as soon as it is read: nobody keeps two"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `hello`.
    Hello(Identity),
    /// To `prepare`: ready; a server says where.
    Ready {
        /// Address of a server of the `io` family.
        address: Option<String>,
    },
    /// To `prepare`: this cannot be done here.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// To `slice`.
    Sample(Sample),
    /// To `finish`; who served or loaded says how much.
    Done(Option<Served>),
}

/// What went between a server and its load in the life of either: both must say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections that the server accepted; of the load, that it made.
    pub accepted: u64,
    /// Requests that the server answered; of the load, whose answers it has seen.
    pub answered: u64,
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Contender id.
    pub contender: String,
    /// Of the runtime it measures.
    pub version: String,
    /// Models it runs.
    pub models: Vec<String>,
}

/// What a worker alone can know of its slice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// As asked for.
    pub iterations: u64,
    /// Time of the work alone.
    pub elapsed_ns: u64,
    /// Reference work of a derived metric, same iterations.
    pub base_ns: Option<u64>,
    /// Units created for the work.
    pub units: u64,
    /// Most of them alive at once.
    pub peak_live: u64,
    /// Switches by the worker's own count, where it has one.
    pub switches: Option<u64>,
    /// The answer of the work.
    pub check: u64,
    /// Raw latencies.
    pub latencies_ns: Vec<u64>,
    /// Units parked, in `stack.idle`.
    pub parked: Option<u64>,
    /// Resident bytes of the units' stacks, by the worker's own mincore.
    pub user_stack_bytes: Option<u64>,
    /// The same work done at once again, in `stack.depth`.
    pub second_ns: Option<u64>,
    /// Bytes of its depth that are in memory when a unit has ended.
    pub kept_bytes: Option<u64>,
    /// What is left of them when its contender has rested.
    pub trimmed_bytes: Option<u64>,
    /// What ended a search for the most units, with its value, in `stack.limit`.
    pub limit: Option<String>,
    /// Threads that came during the slice and carry no unit, where that is asked.
    pub threads: Option<u64>,
    /// Requests sent, by a load.
    pub sent: Option<u64>,
    /// Requests answered right, by a load.
    pub answered: Option<u64>,
    /// Bytes that came back to a load.
    pub bytes: Option<u64>,
    /// CPU time of a load in the slice.
    pub cpu_ns: Option<u64>,
}

/// A line that is not of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(String);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// A split line: the verb, then the pairs in order.
struct Line<'a> {
    verb: &'a str,
    pairs: Vec<(&'a str, String)>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Result<Line<'a>, ProtocolError> {
        let mut words = line.split_ascii_whitespace();
        let verb = words.next().ok_or_else(|| ProtocolError("an empty line".into()))?;
        let pairs = words
            .map(|word| {
                let (key, value) = word
                    .split_once('=')
                    .filter(|(key, _)| is_plain(key))
                    .ok_or_else(|| ProtocolError(format!("`{word}` is not key=value in `{line}`")))?;
                let value = percent_decode_str(value)
                    .decode_utf8()
                    .map_err(|_| ProtocolError(format!("`{key}` is not UTF-8 in `{line}`")))?;
                Ok((key, value.into_owned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Line { verb, pairs })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    fn required(&self, key: &str) -> Result<&str, ProtocolError> {
        self.text(key).ok_or_else(|| ProtocolError(format!("`{}` without `{key}=`", self.verb)))
    }

    fn optional_count(&self, key: &str) -> Result<Option<u64>, ProtocolError> {
        self.text(key)
            .map(|v| v.parse().map_err(|_| ProtocolError(format!("`{key}={v}` is not a count"))))
            .transpose()
    }

    fn count(&self, key: &str) -> Result<u64, ProtocolError> {
        self.required(key)?;
        Ok(self.optional_count(key)?.expect("the key is there"))
    }
}

/// Whether `prepare` can carry a parameter of this name.
pub(crate) fn can_name_a_parameter(name: &str) -> bool {
    is_plain(name) && !PREPARE_KEYS.contains(&name)
}

/// Keys are plain words; values alone are encoded.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn encoded(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

fn joined<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Hello => write!(f, "hello protocol={PROTOCOL}"),
            Request::Prepare(p) => {
                write!(f, "prepare workload={} model={}", encoded(&p.workload), encoded(&p.model))?;
                write!(f, " placement={} cpus={}", encoded(&p.placement), joined(&p.cpus))?;
                for (name, value) in &p.params {
                    write!(f, " {name}={}", encoded(&value.to_string()))?;
                }
                Ok(())
            }
            Request::Slice { iterations } => write!(f, "slice iterations={iterations}"),
            Request::Finish => f.write_str("finish"),
        }
    }
}

/// Keys of `prepare` that are not parameters.
const PREPARE_KEYS: [&str; 4] = ["workload", "model", "placement", "cpus"];

impl Request {
    /// Parses what a worker reads from standard input.
    pub fn parse(line: &str) -> Result<Request, ProtocolError> {
        let line = Line::parse(line)?;
        match line.verb {
            "hello" => match line.required("protocol")? {
                PROTOCOL => Ok(Request::Hello),
                other => Err(ProtocolError(format!("this worker speaks {PROTOCOL}, not {other}"))),
            },
            "prepare" => {
                let cpus = line
                    .required("cpus")?
                    .split(',')
                    .map(|c| c.parse().map_err(|_| ProtocolError(format!("cpu `{c}` is not a number"))))
                    .collect::<Result<_, _>>()?;
                let params = line
                    .pairs
                    .iter()
                    .filter(|(k, _)| !PREPARE_KEYS.contains(k))
                    .map(|(k, v)| {
                        let value =
                            v.parse().map_or_else(|_| ParamValue::Word(v.clone()), ParamValue::Number);
                        ((*k).to_owned(), value)
                    })
                    .collect();
                Ok(Request::Prepare(Prepare {
                    workload: line.required("workload")?.to_owned(),
                    model: line.required("model")?.to_owned(),
                    placement: line.required("placement")?.to_owned(),
                    cpus,
                    params,
                }))
            }
            "slice" => Ok(Request::Slice { iterations: line.count("iterations")? }),
            "finish" => Ok(Request::Finish),
            other => Err(ProtocolError(format!("unknown request `{other}`"))),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Hello(who) => {
                write!(f, "hello contender={} version={}", encoded(&who.contender), encoded(&who.version))?;
                write!(f, " models={}", joined(&who.models))
            }
            Reply::Ready { address: None } => f.write_str("ready"),
            Reply::Ready { address: Some(address) } => write!(f, "ready address={}", encoded(address)),
            Reply::Unsupported { reason } => write!(f, "unsupported reason={}", encoded(reason)),
            Reply::Sample(s) => {
                write!(f, "sample iterations={} elapsed_ns={}", s.iterations, s.elapsed_ns)?;
                write!(f, " units={} peak_live={}", s.units, s.peak_live)?;
                let optional = [
                    ("switches", s.switches),
                    ("base_ns", s.base_ns),
                    ("parked", s.parked),
                    ("user_stack_bytes", s.user_stack_bytes),
                    ("second_ns", s.second_ns),
                    ("kept_bytes", s.kept_bytes),
                    ("trimmed_bytes", s.trimmed_bytes),
                    ("threads", s.threads),
                    ("sent", s.sent),
                    ("answered", s.answered),
                    ("bytes", s.bytes),
                    ("cpu_ns", s.cpu_ns),
                ];
                for (key, value) in optional {
                    if let Some(value) = value {
                        write!(f, " {key}={value}")?;
                    }
                }
                if let Some(limit) = &s.limit {
                    write!(f, " limit={}", encoded(limit))?;
                }
                if !s.latencies_ns.is_empty() {
                    write!(f, " latencies_ns={}", joined(&s.latencies_ns))?;
                }
                write!(f, " check={}", s.check)
            }
            Reply::Done(None) => f.write_str("done"),
            Reply::Done(Some(Served { accepted, answered })) => {
                write!(f, "done accepted={accepted} answered={answered}")
            }
        }
    }
}

impl Reply {
    /// Parses what the parent reads from a worker.
    pub fn parse(line: &str) -> Result<Reply, ProtocolError> {
        let line = Line::parse(line)?;
        match line.verb {
            "hello" => Ok(Reply::Hello(Identity {
                contender: line.required("contender")?.to_owned(),
                version: line.required("version")?.to_owned(),
                models: line.required("models")?.split(',').map(str::to_owned).collect(),
            })),
            "ready" => Ok(Reply::Ready { address: line.text("address").map(str::to_owned) }),
            "unsupported" => Ok(Reply::Unsupported { reason: line.required("reason")?.to_owned() }),
            "sample" => Ok(Reply::Sample(Sample {
                iterations: line.count("iterations")?,
                elapsed_ns: line.count("elapsed_ns")?,
                base_ns: line.optional_count("base_ns")?,
                units: line.count("units")?,
                peak_live: line.count("peak_live")?,
                switches: line.optional_count("switches")?,
                check: line.count("check")?,
                latencies_ns: match line.text("latencies_ns") {
                    None => Vec::new(),
                    Some(list) => list
                        .split(',')
                        .map(|v| {
                            v.parse().map_err(|_| ProtocolError(format!("latency `{v}` is not a count")))
                        })
                        .collect::<Result<_, _>>()?,
                },
                parked: line.optional_count("parked")?,
                user_stack_bytes: line.optional_count("user_stack_bytes")?,
                second_ns: line.optional_count("second_ns")?,
                kept_bytes: line.optional_count("kept_bytes")?,
                trimmed_bytes: line.optional_count("trimmed_bytes")?,
                limit: line.text("limit").map(str::to_owned),
                threads: line.optional_count("threads")?,
                sent: line.optional_count("sent")?,
                answered: line.optional_count("answered")?,
                bytes: line.optional_count("bytes")?,
                cpu_ns: line.optional_count("cpu_ns")?,
            })),
            "done" => Ok(Reply::Done(match line.optional_count("accepted")? {
                None => None,
                Some(accepted) => Some(Served { accepted, answered: line.count("answered")? }),
            })),
            other => Err(ProtocolError(format!("unknown reply `{other}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare() -> Prepare {
        Prepare {
            workload: "stack.idle".into(),
            model: "parked".into(),
            placement: "cross-core".into(),
            cpus: vec![1, 0],
            params: vec![
                ("units".into(), ParamValue::Number(10_000)),
                ("stack".into(), ParamValue::Word("default".into())),
            ],
        }
    }

    #[test]
    fn every_request_survives_the_wire() {
        let requests =
            [Request::Hello, Request::Prepare(prepare()), Request::Slice { iterations: 7 }, Request::Finish];
        for request in requests {
            assert_eq!(Request::parse(&request.to_string()), Ok(request));
        }
    }

    #[test]
    fn every_reply_survives_the_wire() {
        let full = Sample {
            iterations: 1,
            elapsed_ns: 2,
            base_ns: Some(3),
            units: 4,
            peak_live: 5,
            switches: Some(6),
            check: 7,
            latencies_ns: vec![8, 9],
            parked: Some(10),
            user_stack_bytes: Some(11),
            sent: Some(12),
            answered: Some(13),
            bytes: Some(14),
            cpu_ns: Some(15),
            threads: Some(18),
            limit: Some("vm.max_map_count = 65530, of which 65528 are used".into()),
            second_ns: Some(19),
            kept_bytes: Some(20),
            trimmed_bytes: Some(21),
        };
        let replies = [
            Reply::Hello(Identity {
                contender: "my runtime".into(),
                version: "1.0 = 100%".into(),
                models: vec!["yield-ring".into(), "bounce".into()],
            }),
            Reply::Ready { address: None },
            Reply::Ready { address: Some("127.0.0.1:80".into()) },
            Reply::Unsupported { reason: "no %41 here: ünïcode\nand a line".into() },
            Reply::Sample(full),
            Reply::Sample(Sample::default()),
            Reply::Done(None),
            Reply::Done(Some(Served { accepted: 16, answered: 17 })),
        ];
        for reply in replies {
            let line = reply.to_string();
            assert!(!line.contains('\n'), "one reply is one line: {line}");
            assert_eq!(Reply::parse(&line), Ok(reply));
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_missing_ones_are_named() {
        let line = "sample iterations=1 elapsed_ns=2 units=0 peak_live=0 check=3 mood=good";
        assert!(matches!(Reply::parse(line), Ok(Reply::Sample(s)) if s.check == 3));
        let error = Reply::parse("sample iterations=1 units=0 peak_live=0 check=3").unwrap_err();
        assert!(error.to_string().contains("elapsed_ns"), "{error}");
        let error = Reply::parse("sample iterations=-1").unwrap_err();
        assert!(error.to_string().contains("iterations=-1"), "{error}");
    }

    #[test]
    fn another_protocol_version_is_refused_by_name() {
        let error = Request::parse("hello protocol=switchmark.worker/2").unwrap_err();
        assert!(error.to_string().contains("switchmark.worker/1"), "{error}");
        assert!(error.to_string().contains("switchmark.worker/2"), "{error}");
    }

    #[test]
    fn noise_on_standard_output_is_an_error_not_a_panic() {
        for line in ["", " ", "Hello, world!", "sample", "hello a=b", "ready x", "sample iterations=%ff"] {
            let _ = Reply::parse(line);
            let _ = Request::parse(line);
        }
        assert!(Reply::parse("loading…").is_err());
    }
}
