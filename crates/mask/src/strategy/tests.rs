use super::*;

#[test]
fn every_name_comes_back_to_the_same_strategy() {
    for (name, strategy) in names() {
        assert_eq!(name.parse(), Ok(strategy));
        assert_eq!(strategy.to_string(), name);
    }
    let keep = Strategy::KeepFirstLast { first: 3, last: 4 };
    assert_eq!("keep_first_n_last_m(3,4)".parse(), Ok(keep));
    assert_eq!("keep_first_n_last_m( 3 , 4 )".parse(), Ok(keep));
    assert_eq!(keep.to_string(), "keep_first_n_last_m(3,4)");
}

#[test]
fn other_names_are_refused() {
    for text in ["", "md5", "Mobile", "keep_first_n_last_m(3)", "keep_first_n_last_m(+3,4)"] {
        assert_eq!(text.parse::<Strategy>(), Err(StrategyError(text.into())), "{text}");
    }
    for text in ["keep_first_n_last_m(300,4)", "keep_first_n_last_m(,)"] {
        assert!(text.parse::<Strategy>().is_err(), "{text}");
    }
}

#[test]
fn a_strategy_may_not_show_more_than_the_class_allows() {
    let keep = |first, last| Strategy::KeepFirstLast { first, last };
    assert!(keep(6, 4).allowed_for(Class::Pan));
    assert!(!keep(7, 4).allowed_for(Class::Pan));
    assert!(!keep(6, 5).allowed_for(Class::Pan));
    assert!(keep(60, 50).allowed_for(Class::C2));
    assert!(!Strategy::MOBILE.allowed_for(Class::C3));
    assert!(Strategy::HashAnchor.allowed_for(Class::C3));
    assert!(!Strategy::HashAnchor.allowed_for(Class::Sad));
    assert!(!Strategy::BANK_CARD.allowed_for(Class::Sad));
    for class in Class::ALL {
        assert!(Strategy::Fixed.allowed_for(class) && Strategy::Drop.allowed_for(class));
    }
}

#[test]
fn characters_are_counted_and_never_cut() {
    let keep = |first, last, text| Strategy::KeepFirstLast { first, last }.mask(Class::C2, text);
    assert_eq!(keep(1, 1, "护城河网关"), "护***关");
    assert_eq!(keep(0, 0, "abc"), "***");
    assert_eq!(keep(3, 4, "1234567"), "***");
    assert_eq!(keep(3, 4, "12345678"), "123*5678");
    assert_eq!(keep(1, 0, ""), "***");
    assert_eq!(keep(0, 1, "护城"), "*城");
    assert_eq!(keep(2, 0, "护城河"), "护城*");
    for (first, last) in [(5, 0), (0, 5), (3, 3), (200, 200), (2, 3)] {
        assert_eq!(keep(first, last, "abcde"), "***", "{first} {last}");
    }
    assert_eq!(Strategy::Fixed.mask(Class::C3, "secret"), "******");
}

#[track_caller]
fn golden(strategy: &str, rows: &[(&str, &str)]) {
    let parsed: Strategy = strategy.parse().expect(strategy);
    assert_eq!(parsed.to_string(), strategy);
    for (text, wanted) in rows {
        assert_eq!(parsed.mask(Class::C2, text), *wanted, "{strategy} of {text}");
    }
}

#[test]
fn places_count_characters_and_what_is_too_short_is_hidden_whole() {
    golden("keep_from_x_to_y(1,2)", &[("护城河网关", "*城河**"), ("ab", "***"), ("abc", "*bc")]);
    golden("mask_from_x_to_y(1,2)", &[("护城河网关", "护**网关"), ("ab", "***"), ("abc", "a**")]);
    golden("keep_from_x_to_y(0,4)", &[("abcde", "***"), ("abcdef", "abcde*")]);
    golden("mask_first_n_last_m(1,2)", &[("护城河网关", "*城河**"), ("abc", "***"), ("", "***")]);
    golden("mask_first_n_last_m(0,0)", &[("abc", "***")]);
    golden(
        "mask_before_special_chars(@)",
        &[("a.b@c.test", "***@c.test"), ("@x", "***"), ("x", "***")],
    );
    golden(
        "mask_after_special_chars(-)",
        &[("010-8888", "010-****"), ("8888", "***"), ("8-", "***")],
    );
    for wrong in [
        "keep_from_x_to_y(2,1)",
        "mask_before_special_chars(ab)",
        "mask_after_special_chars(a)",
        "range(0)",
        "range(-1)",
        "range()",
        "mask_after_special_chars()",
    ] {
        assert!(wrong.parse::<Strategy>().is_err(), "{wrong}");
    }
}

#[test]
fn amounts_become_bands_and_dates_become_years() {
    golden(
        "range(1000)",
        &[
            ("0", "0..1000"),
            ("999.99", "0..1000"),
            ("1000", "1000..2000"),
            ("-1", "-1000..0"),
            ("-2500.5", "-3000..-2000"),
            ("1e3", "***"),
            ("", "***"),
            ("1.", "***"),
            ("99999999999999999999", "***"),
            ("18446744073709551615", "***"),
        ],
    );
    golden(
        "date_to_year",
        &[
            ("2026-11-23T08:00:00Z", "2026"),
            ("20261123", "2026"),
            ("2026年11月23日", "2026"),
            ("2026/02/30", "***"),
            ("1949", "***"),
            ("not a date", "***"),
        ],
    );
}
