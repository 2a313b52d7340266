//! Any bytes are a message of each spec, or are refused; with a plan and without one, the same is
//! said. What is read is written again byte for byte. Frames are cut where their length says.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moat_message::frame::{Framing, LengthForm};
use moat_message::iso8583::{Check, Decoder, Draft, Index, decode};
use moat_message::spec::{SHIPPED, Spec};
use moat_message::{MessageError, Read};

static SPECS: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    SHIPPED.iter().map(|(_, yaml)| Spec::parse(yaml).expect("a shipped spec")).collect()
});

fuzz_target!(|data: &[u8]| {
    // The last byte chooses spec and framing, so that a seed is a message with one letter more.
    let Some((choice, bytes)) = data.split_last() else { return };
    frames(*choice, bytes);
    let spec = &SPECS[usize::from(*choice) % SPECS.len()];
    let (mut a, mut b) = (Index::new(), Index::new());
    for check in [Check::Strict, Check::Lazy] {
        let general = decode(spec, check, bytes, &mut a);
        let mut decoder = Decoder::new(spec, check);
        for _ in 0..2 {
            match (&general, decoder.decode(bytes, &mut b)) {
                (Ok(general), Ok(mut planned)) => {
                    assert!(general.fields().eq(planned.fields()));
                    for number in 0..=192 {
                        look(planned.read(number));
                        planned.open(number).into_iter().flatten().for_each(|item| {
                            item.map_or_else(no_content, |item| look(Some(item.value)));
                        });
                    }
                    let mut out = Vec::new();
                    Draft::of(planned).write(&mut out).expect("it was read");
                    assert_eq!(out, bytes);
                }
                (Err(general), Err(planned)) => {
                    assert_eq!(*general, planned);
                    no_content(planned);
                }
                _ => panic!("only one way accepts it"),
            }
        }
    }
});

fn look(read: Option<Read<'_>>) {
    match read {
        Some(Read::Clear(value)) => {
            let mut text = String::new();
            let _ = value.text(&mut text);
            let _ = (value.canonical().is_some(), value.amount(2).is_ok());
        }
        Some(Read::Guarded(guarded)) => {
            assert!(guarded.masked().len() <= 13 && guarded.is_same(&guarded));
        }
        None => {}
    }
}

/// An error names code, field and offset.
fn no_content(wrong: MessageError) {
    let text = wrong.to_string();
    assert!(text.starts_with(wrong.code().id) && text.ends_with(')'));
}

fn frames(choice: u8, bytes: &[u8]) {
    let forms = [LengthForm::Binary2, LengthForm::Binary4, LengthForm::Ascii4, LengthForm::Bcd2];
    let form = forms[usize::from(choice >> 4) % forms.len()];
    let framing = Framing { form, includes_itself: choice & 8 != 0 };
    if let Ok(Some(frame)) = framing.take(bytes) {
        let mut again = Vec::new();
        framing.put(frame.message, &mut again).expect("it came in such a frame");
        assert_eq!(again, &bytes[..frame.used]);
        for cut in 0..frame.used {
            assert!(framing.take(&bytes[..cut]).is_ok_and(|frame| frame.is_none()));
        }
    }
}
