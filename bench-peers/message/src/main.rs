//! What other crates need for the works of `moat bench message`. Reads the samples in the folder that
//! is its argument, says who it is, then for each line `WORK SECONDS` runs the work for that long and
//! answers `RUNS NANOSECONDS`.

use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use iso_8583_rs::{CompiledSpec, Message};

/// The fields of the sample, as ISO 8583:1987 has them.
const FIELDS: &[(usize, &str, &str, usize)] = &[
    (2, "n", "llvar", 19),
    (3, "n", "fixed", 6),
    (4, "n", "fixed", 12),
    (7, "n", "fixed", 10),
    (11, "n", "fixed", 6),
    (12, "n", "fixed", 6),
    (13, "n", "fixed", 4),
    (14, "n", "fixed", 4),
    (18, "n", "fixed", 4),
    (22, "n", "fixed", 3),
    (25, "n", "fixed", 2),
    (32, "n", "llvar", 11),
    (37, "an", "fixed", 12),
    (38, "an", "fixed", 6),
    (39, "an", "fixed", 2),
    (41, "ans", "fixed", 8),
    (42, "ans", "fixed", 15),
    (43, "ans", "fixed", 40),
    (49, "n", "fixed", 3),
    (102, "ans", "llvar", 28),
];

fn spec() -> CompiledSpec {
    let line = |(number, content, length, most): &(usize, &str, &str, usize)| {
        format!(
            "{number}:\n  ContentType: {content}\n  Label: f{number}\n  LenType: {length}\n  MaxLen: {most}\n"
        )
    };
    let path = std::env::temp_dir().join(format!("moat-peer-message-{}.yml", std::process::id()));
    std::fs::write(&path, FIELDS.iter().map(line).collect::<String>()).expect("a file of the spec");
    let spec = CompiledSpec::from_file(path.to_str().expect("a path")).expect("a spec");
    let _ = std::fs::remove_file(path);
    spec
}

/// Every value, those in others too.
fn values(parser: &mut asn1::Parser<'_>) -> asn1::ParseResult<u32> {
    let mut count = 0;
    while !parser.is_empty() {
        let value = parser.read_element::<asn1::Tlv<'_>>()?;
        count += 1;
        if value.tag().is_constructed() {
            count += asn1::parse(value.data(), values)?;
        }
    }
    Ok(count)
}

/// The texts of all elements without elements, through a tree.
fn texts(document: &str) -> Option<(usize, usize)> {
    let tree = roxmltree::Document::parse(document).ok()?;
    let leaves =
        tree.descendants().filter(|node| node.is_element() && node.first_element_child().is_none());
    Some(
        leaves.fold((0, 0), |(count, bytes), leaf| {
            (count + 1, bytes + leaf.text().map_or(0, str::len))
        }),
    )
}

fn run(seconds: f64, mut work: impl FnMut() -> bool) -> (u64, u128) {
    assert!(work(), "the peer refuses the sample");
    let (begun, mut runs, long) = (Instant::now(), 0, Duration::from_secs_f64(seconds));
    // The clock is read seldom beside works of nanoseconds.
    let batch = if {
        let one = Instant::now();
        work();
        one.elapsed() < Duration::from_micros(10)
    } {
        1_000
    } else {
        1
    };
    loop {
        for _ in 0..batch {
            black_box(work());
        }
        runs += batch;
        let took = begun.elapsed();
        if took >= long {
            return (runs, took.as_nanos());
        }
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder of samples");
    let read = |name: &str| std::fs::read(Path::new(&folder).join(name)).expect(name);
    let text = |name: &str| String::from_utf8(read(name)).expect(name);
    let (spec, ascii, der) = (spec(), read("ascii.bin"), read("certificate.der"));
    let (one, many) = (text("one.xml"), text("many.xml"));
    println!("moat-peer-message iso_8583_rs 0.2.2, asn1 0.24.1, roxmltree 0.21.2");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let (work, seconds) = line.split_once(' ').expect("WORK SECONDS");
        let seconds: f64 = seconds.parse().expect("seconds");
        let (runs, ns) = match work {
            "iso-strict" => run(seconds, || Message::parse(&spec, black_box(&ascii)).is_ok()),
            "iso-lazy" => run(seconds, || Message::parse_lazy(&spec, black_box(&ascii)).is_ok()),
            "der" => run(seconds, || asn1::parse(black_box(&der), values).is_ok()),
            "xml-one" => run(seconds, || texts(black_box(&one)).is_some()),
            "xml-many" => run(seconds, || texts(black_box(&many)).is_some()),
            _ => panic!("there is no work {work}"),
        };
        println!("{runs} {ns}");
        std::io::stdout().flush().expect("stdout");
    }
}
