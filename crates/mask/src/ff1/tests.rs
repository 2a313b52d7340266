use super::*;
use proptest::prelude::*;

const KEY: [u8; 32] = [
    0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
    0xef, 0x43, 0x59, 0xd8, 0xd5, 0x80, 0xaa, 0x4f, 0x7f, 0x03, 0x6d, 0x6f, 0x04, 0xfc, 0x6a, 0x94,
];

fn numerals(text: &str) -> Vec<u8> {
    text.chars().map(|c| c.to_digit(36).expect("a numeral") as u8).collect()
}

/// The samples that NIST published with SP 800-38G for AES-128 and AES-256.
#[test]
fn the_published_samples_come_out() {
    let tweak = [0x39, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x30];
    let letters = [0x37, 0x37, 0x37, 0x37, 0x70, 0x71, 0x72, 0x73, 0x37, 0x37, 0x37];
    let samples: [(usize, &[u8], u16, &str, &str); 6] = [
        (16, &[], 10, "0123456789", "2433477484"),
        (16, &tweak, 10, "0123456789", "6124200773"),
        (16, &letters, 36, "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
        (32, &[], 10, "0123456789", "6657667009"),
        (32, &tweak, 10, "0123456789", "1001623463"),
        (32, &letters, 36, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
    ];
    for (key, tweak, radix, plain, wanted) in samples {
        let cipher = Aes::new(&KEY[..key]).expect("a key");
        let mut text = numerals(plain);
        encrypt(&cipher, tweak, radix, &mut text).expect("encrypts");
        assert_eq!(text, numerals(wanted));
        decrypt(&cipher, tweak, radix, &mut text).expect("decrypts");
        assert_eq!(text, numerals(plain));
    }
}

#[test]
fn small_domains_and_what_is_no_numeral_are_refused() {
    let cipher = Aes::new(&KEY[..16]).expect("a key");
    let try_ = |length: usize, radix| encrypt(&cipher, b"", radix, &mut vec![0; length]);
    assert_eq!(try_(5, 10), Err(Ff1Error::DomainTooSmall));
    assert_eq!(try_(6, 10), Ok(()));
    assert_eq!(try_(0, 10), Err(Ff1Error::DomainTooSmall));
    assert_eq!(try_(1, 256), Err(Ff1Error::DomainTooSmall));
    assert_eq!(try_(19, 2), Err(Ff1Error::DomainTooSmall));
    assert_eq!(try_(20, 2), Ok(()));
    assert_eq!(try_(56, 10), Ok(()));
    assert_eq!(try_(60, 10), Err(Ff1Error::TooLong));
    assert_eq!(try_(500, 10), Err(Ff1Error::TooLong));
    assert_eq!(try_(10, 1), Err(Ff1Error::Numeral));
    assert_eq!(encrypt(&cipher, b"", 10, &mut [1, 2, 3, 4, 5, 10]), Err(Ff1Error::Numeral));
    assert_eq!(encrypt(&cipher, &[0; 1025], 10, &mut [0; 8]), Err(Ff1Error::Tweak));
    assert!(Aes::new(&KEY[..24]).is_none());
}

proptest! {
    #[test]
    fn what_is_encrypted_decrypts_and_the_tweak_matters(
        text in proptest::collection::vec(0u8..10, 6..50),
        tweak in proptest::collection::vec(any::<u8>(), 0..70),
        key: [u8; 32],
    ) {
        let cipher = Aes::new(&key).expect("a key");
        let mut token = text.clone();
        encrypt(&cipher, &tweak, 10, &mut token).expect("encrypts");
        prop_assert!(token.iter().all(|n| *n < 10));
        let mut back = token.clone();
        decrypt(&cipher, &tweak, 10, &mut back).expect("decrypts");
        prop_assert_eq!(&back, &text);
        let mut other = text.clone();
        let mut longer = tweak;
        longer.push(0);
        encrypt(&cipher, &longer, 10, &mut other).expect("encrypts");
        if text.len() > 12 {
            prop_assert_ne!(other, token);
        }
    }
}

#[test]
fn a_small_domain_is_permuted() {
    let cipher = Aes::new(&KEY[..16]).expect("a key");
    let mut seen = vec![false; 1_000_000];
    for n in 0..1_000_000u128 {
        let mut text = [0; 6];
        spell(n, 10, &mut text);
        encrypt(&cipher, b"tweak", 10, &mut text).expect("encrypts");
        let place = number(&text, 10) as usize;
        assert!(!seen[place]);
        seen[place] = true;
    }
}
