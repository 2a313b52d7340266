use super::*;
use crate::strategy::{Show, Strategy};
use moat_model::Class;

fn shown(strategy: &str, text: &str) -> String {
    strategy.parse::<Strategy>().expect(strategy).mask(Class::C2, text)
}

#[track_caller]
fn golden(strategy: &str, rows: &[(&str, &str)]) {
    for (text, wanted) in rows {
        assert_eq!(shown(strategy, text), *wanted, "{strategy} of {text}");
    }
}

#[test]
fn identity_numbers() {
    for valid in [
        "11010519491231002X",
        "11010519491231002x",
        "440524188001010014",
        "１１０１０５１９４９１２３１００２Ｘ",
        "130503670401001",
    ] {
        assert!(id_card::is_id_card(valid), "{valid}");
    }
    for wrong in [
        "",
        "110105194912310021",
        "110105194913310025",
        "110105190002290018",
        "990105194912310",
        "010105194912310",
        "11010519491231002",
        "11010519491231002XX",
        "11010519491231O02X",
        "X1010519491231002X",
        "13050367040100X",
    ] {
        assert!(!id_card::is_id_card(wrong), "{wrong}");
    }
    golden(
        "id_card",
        &[
            ("11010519491231002X", "110***********002X"),
            ("110105194912310021", "110***********0021"),
            ("130503670401001", "130********1001"),
            ("１１０１０５１９４９１２３１００２Ｘ", "１１０***********００２Ｘ"),
            ("11010519491231", "***"),
            ("证件11010519491231002X", "证件1*************002X"),
            ("", "***"),
        ],
    );
    golden("id_card_strict", &[("11010519491231002X", "1****************X"), ("12", "***")]);
}

#[test]
fn residence_permits_and_cards_for_foreigners_are_identity_numbers() {
    for region in ["810000", "820000", "830000", "911124"] {
        let body = format!("{region}19900307001");
        let check = id_card::check_character(body.as_bytes()).expect("17 digits");
        assert!(id_card::is_id_card(&format!("{body}{}", char::from(check))), "{region}");
    }
}

#[test]
fn the_identity_check_finds_every_changed_digit_and_every_swap() {
    let body = b"11010519491231002";
    let check = id_card::check_character(body).expect("check");
    assert_eq!(check, b'X');
    for place in 0..body.len() {
        for digit in b'0'..=b'9' {
            let mut other = *body;
            other[place] = digit;
            let same = id_card::check_character(&other) == Some(check);
            assert_eq!(same, digit == body[place], "{place} {digit}");
        }
        let mut swapped = *body;
        if place + 1 < body.len() && body[place] != body[place + 1] {
            swapped.swap(place, place + 1);
            assert_ne!(id_card::check_character(&swapped), Some(check), "swap at {place}");
        }
    }
}

#[test]
fn luhn_finds_every_changed_digit_and_every_swap_but_of_nought_and_nine() {
    for card in ["6222020200112233440", "4111111111111111", "5500005555555559", "6210987654321098"]
    {
        let base = &card[..card.len() - 1];
        let valid: Vec<String> =
            (0..10).map(|d| format!("{base}{d}")).filter(|c| bank_card::luhn(c)).collect();
        let [valid] = valid.as_slice() else { panic!("one check digit") };
        for place in 0..valid.len() {
            for digit in b'0'..=b'9' {
                let mut other = valid.clone().into_bytes();
                let same = digit == other[place];
                other[place] = digit;
                assert_eq!(bank_card::luhn(&String::from_utf8(other).expect("ascii")), same);
            }
            let mut other = valid.clone().into_bytes();
            if place + 1 < other.len() && other[place] != other[place + 1] {
                let pair = (other[place].min(other[place + 1]), other[place].max(other[place + 1]));
                other.swap(place, place + 1);
                let passes = bank_card::luhn(&String::from_utf8(other).expect("ascii"));
                assert_eq!(passes, pair == (b'0', b'9'));
            }
        }
    }
    assert!(!bank_card::luhn("") && !bank_card::luhn("0") && !bank_card::luhn("４１１１"));
}

#[test]
fn bank_cards() {
    assert!(bank_card::is_bank_card("4111 1111 1111 1111"));
    assert!(bank_card::is_bank_card("４１１１１１１１１１１１１１１１"));
    assert!(!bank_card::is_bank_card("4111111111111112"));
    assert!(!bank_card::is_bank_card("411111111111"));
    golden(
        "bank_card",
        &[
            ("6222020200112233445", "622202*********3445"),
            ("4111-1111-1111-1112", "411111******1112"),
            ("４１１１１１１１１１１１１１１１", "411111******1111"),
            ("4222222222222", "422222***2222"),
            ("622202020011", "***"),
            ("62220202001122334455", "***"),
            ("卡号6222020200112233445", "***"),
        ],
    );
    golden("bank_card_strict", &[("4111111111111111", "************1111")]);
    assert_eq!(
        bank_card::bin_and_last4("4111111111111111"),
        Some(("411111".into(), "1111".into()))
    );
    assert_eq!(bank_card::bin_and_last4("411111111111"), None);
}

#[test]
fn mobile_numbers() {
    for valid in ["13800138000", "+8613800138000", "86 138-0013-8000", "１３８００１３８０００"]
    {
        assert!(mobile::is_mobile(valid), "{valid}");
    }
    for wrong in ["12800138000", "1380013800", "138001380000", "+113800138000", "", "+"] {
        assert!(!mobile::is_mobile(wrong), "{wrong}");
    }
    golden(
        "mobile",
        &[
            ("13800138000", "138****8000"),
            ("12800138000", "128****8000"),
            ("+86 138 0013 8000", "+86 138****8000"),
            ("１３８００１３８０００", "138****8000"),
            ("1380013800", "***"),
            ("手机13800138000号", "手机1*******000号"),
            ("+1 415 555 2671", "+1 ********2671"),
            ("", "***"),
        ],
    );
    golden("mobile_strict", &[("13800138000", "*********00"), ("8000", "***")]);
}

#[test]
fn names() {
    golden(
        "name",
        &[
            ("张三", "张*"),
            ("欧阳修", "欧阳*"),
            ("司马相如", "司马*"),
            ("欧阳", "欧*"),
            ("上官婉儿", "上官*"),
            ("𠮷田", "𠮷*"),
            ("张", "***"),
            ("买买提·吐尔逊", "***"),
            ("爱新觉罗溥仪", "***"),
            ("John Smith", "J*** S***"),
            ("Anne-Marie O'Neil", "A*** O***"),
            ("张 Wei", "***"),
            ("J", "***"),
            ("", "***"),
        ],
    );
    golden("name_strict", &[("张三", "**"), ("", "**")]);
}

#[test]
fn mail_addresses() {
    golden(
        "email",
        &[
            ("zhang.san@bank.test", "z***@bank.test"),
            ("z@bank.test", "***@bank.test"),
            ("张三@例子.测试", "张***@例子.测试"),
            ("zhang＠bank.test", "z***@bank.test"),
            ("zhang@bank", "***"),
            ("a@b@c.test", "***"),
            ("ab@x.test, cd@y.test", "***"),
            ("@bank.test", "***"),
            ("zhang", "***"),
        ],
    );
    assert!(email::is_email("a@b.c") && !email::is_email("a@b."));
}

#[test]
fn addresses() {
    golden(
        "address",
        &[
            ("广东省深圳市南山区科技园路1号", "广东省深圳市南山区***"),
            ("北京市海淀区中关村大街27号", "北京市海淀区***"),
            ("深圳市南山区菜市场5号", "深圳市南山区***"),
            ("江苏省苏州市昆山市玉山镇", "江苏省苏州市昆山市***"),
            ("江苏省南京市鼓楼区中山路1号", "江苏省南京市鼓楼区***"),
            ("江西省景德镇市珠山区瓷都大道", "江西省景德镇市珠山区***"),
            ("内蒙古自治区锡林郭勒盟苏尼特左旗满都拉图镇", "内蒙古自治区锡林郭勒盟苏尼特左旗***"),
            (
                "新疆维吾尔自治区克孜勒苏柯尔克孜自治州阿图什市1号",
                "新疆维吾尔自治区克孜勒苏柯尔克孜自治州阿图什市***",
            ),
            ("中关村大街27号阳光小区", "***"),
            ("北京市阳光小区3号楼", "***"),
            ("北京市朝阳路88号某某小区", "***"),
            ("上海市，浦东新区", "***"),
            ("No. 1, Nanshan District", "***"),
            ("广东省", "***"),
            ("", "***"),
        ],
    );
    golden(
        "address_strict",
        &[("广东省深圳市南山区科技园路1号", "广东省***"), ("中关村大街27号", "***")],
    );
}

#[test]
fn no_mask_panics_or_shows_the_whole_of_a_text_that_is_not_tiny() {
    let pieces =
        ["", "1", "１", "张", "区", "市", "省", "@", ".", " ", "X", "\u{10ffff}", "é", "+86"];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                let text = format!("{a}{b}{c}{a}{c}");
                for show in [Show::Normal, Show::Strict] {
                    for strategy in [
                        Strategy::IdCard(show),
                        Strategy::Mobile(show),
                        Strategy::BankCard(show),
                        Strategy::Name(show),
                        Strategy::Address(show),
                        Strategy::Email(show),
                        Strategy::Uscc(show),
                        Strategy::Passport(show),
                    ] {
                        assert!(strategy.mask(Class::C2, &text).contains('*'), "{strategy} {text}");
                    }
                }
            }
        }
    }
}

#[test]
fn credit_codes_of_organisations() {
    for valid in
        ["91350100M000100Y43", "91350100m000100y43", "９１３５０１００Ｍ０００１００Ｙ４３"]
    {
        assert!(uscc::is_uscc(valid), "{valid}");
    }
    for wrong in ["", "91350100M000100Y4", "91350100M000100Y434", "91350100I000100Y43"] {
        assert!(!uscc::is_uscc(wrong), "{wrong}");
    }
    golden(
        "uscc",
        &[
            ("91350100M000100Y43", "9135**********0Y43"),
            ("91350100M000100Y44", "9135**********0Y44"),
            ("91350100M", "***"),
            ("", "***"),
        ],
    );
    golden("uscc_strict", &[("91350100M000100Y43", "****************43")]);
}

#[test]
fn every_single_change_and_every_swap_of_neighbours_fails_a_credit_code() {
    let valid = b"91350100M000100Y43";
    for place in 0..valid.len() {
        for symbol in b"0123456789ABCDEFGHJKLMNPQRTUWXY" {
            let mut other = *valid;
            other[place] = *symbol;
            let text = String::from_utf8(other.to_vec()).expect("ascii");
            assert_eq!(uscc::is_uscc(&text), other == *valid, "{text}");
        }
        if place + 1 < valid.len() && valid[place] != valid[place + 1] {
            let mut other = *valid;
            other.swap(place, place + 1);
            assert!(!uscc::is_uscc(core::str::from_utf8(&other).expect("ascii")));
        }
    }
}

#[test]
fn passports_permits_and_plates() {
    for valid in ["E12345678", "G12345678", "EA1234567", "PE1234567", "ｅ12345678"] {
        assert!(passport::is_passport(valid), "{valid}");
    }
    for wrong in ["E1234567", "EI1234567", "EO1234567", "X12345678", "E123456789", "E1234567A", ""]
    {
        assert!(!passport::is_passport(wrong), "{wrong}");
    }
    for valid in ["C12345678", "CA1234567", "H12345678", "M1234567890", "T12345678"] {
        assert!(passport::is_permit(valid), "{valid}");
    }
    assert!(!passport::is_permit("H1234567") && !passport::is_permit("12345678"));
    golden("passport", &[("E12345678", "E******78"), ("E12", "***"), ("", "***")]);
    golden("passport_strict", &[("E12345678", "***")]);
    for valid in ["京A12345", "粤BD12345", "粤B·D123学", "沪a1234Z"] {
        assert!(plate::is_plate(valid), "{valid}");
    }
    for wrong in ["京I12345", "京A1234", "京A1234O", "A京12345", "京A1234567", "美A12345", ""]
    {
        assert!(!plate::is_plate(wrong), "{wrong}");
    }
    golden("plate", &[("京A12345", "京A****5"), ("京A1", "***")]);
    golden("plate_strict", &[("粤BD12345", "粤B******")]);
}

#[test]
fn networks_and_places() {
    golden(
        "ip",
        &[
            ("203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("203.0.113.777", "***"),
            ("", "***"),
        ],
    );
    golden(
        "geo",
        &[
            ("39.90872", "39.9"),
            ("-116.39748", "-116.3"),
            ("39.90872,116.39748", "39.9,116.3"),
            ("39", "39"),
            ("39.9087N", "***"),
            ("1e3", "***"),
            ("39.9,", "***"),
            ("", "***"),
        ],
    );
    golden("geo_strict", &[("39.90872", "***")]);
    assert!(geo::is_place("39.90872,116.39748") && !geo::is_place("3.14,2.71"));
}
