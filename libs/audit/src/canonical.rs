use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The JSON Canonicalization Scheme of RFC 8785, with one difference: an integer outside ±2^53 keeps all its digits,
/// where the RFC would round it to the nearest double. So:
///
/// - no space anywhere;
/// - the members of an object sorted by the UTF-16 code units of their names;
/// - strings as UTF-8, escaping only `"`, `\` and what is below U+0020 (`\b \t \n \f \r`, else `\u00xx`);
/// - integers in decimal; other numbers as ECMAScript writes a double (shortest digits that read back the same,
///   exponent form from 1e21 up and below 1e-6), so that `1.0` is `1` and `-0.0` is `0`.
///
/// Two texts of equal JSON values have the same canonical form, provided that whoever parsed them read each double
/// exactly. `serde_json` does so only with its feature `float_roundtrip`; without, a double of 17 digits may change in
/// its last bit each time it is read and written. That is why an entry's canonical bytes are made once and kept.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::with_capacity(256);
    write_value(&mut text, value);
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(text, name);
                text.push(':');
                write_value(text, member);
            }
            text.push('}');
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn write_number(text: &mut String, number: &Number) {
    match number.as_f64() {
        Some(double) if number.is_f64() => write_double(text, double),
        _ => text.push_str(&number.to_string()),
    }
}

/// `Number::toString` of ECMA-262 for a finite double.
fn write_double(text: &mut String, double: f64) {
    if double == 0.0 {
        text.push('0');
        return;
    }
    // Rust gives the shortest digits that read back the same, as ECMAScript asks, and rounds a tie up, where ECMAScript
    // rounds it to even: as Rust does when it is told the number of digits.
    let shortest = format!("{:e}", double.abs());
    let decimals = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count() - 1;
    let rounded = format!("{:.decimals$e}", double.abs());
    let is_same = rounded.parse::<f64>().is_ok_and(|read| read.to_bits() == double.abs().to_bits());
    let scientific = if is_same { rounded } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = digits.len() as i32;
    // The value is 0.digits × 10^point.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    if double < 0.0 {
        text.push('-');
    }
    if (count..=21).contains(&point) {
        text.push_str(&digits);
        text.extend(std::iter::repeat_n('0', (point - count) as usize));
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(point as usize);
        let _ = write!(text, "{whole}.{fraction}");
    } else if (-5..=0).contains(&point) {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', -point as usize));
        text.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(text, "{first}{dot}{rest}e{:+}", point - 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The vectors of RFC 8785, appendix B: bits of a double, and its text.
    #[test]
    fn doubles_read_as_ecmascript_writes_them() {
        let vectors: [(u64, &str); 24] = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ];
        for (bits, expected) in vectors {
            let mut text = String::new();
            write_double(&mut text, f64::from_bits(bits));
            assert_eq!(text, expected, "{bits:x}");
        }
        assert_eq!(
            canonical_json(&json!([1.0, 0.5, 100.25, 1e-7, u64::MAX, -3])),
            "[1,0.5,100.25,1e-7,18446744073709551615,-3]"
        );
    }

    #[test]
    fn members_are_sorted_by_utf16_and_strings_escaped_as_the_rfc_says() {
        // The example of RFC 8785, 3.2.3: U+FB33 sorts after U+1F600, whose first code unit is 0xD83D.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let names: Vec<String> =
            canonical_json(&value).split(',').map(|m| m.chars().last().unwrap().to_string()).collect();
        assert_eq!(names.join(""), "246715}");
        assert_eq!(
            canonical_json(&value).as_str(),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
        assert_eq!(canonical_json(&json!("\u{1f}\u{8}\u{c}\u{7f}/\"\\é")), "\"\\u001f\\b\\f\u{7f}/\\\"\\\\é\"");
        assert_eq!(
            canonical_json(&json!({"b": [1, null, true, {}], "a": {"d": [], "c": ""}})),
            r#"{"a":{"c":"","d":[]},"b":[1,null,true,{}]}"#
        );
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_is_json_of_the_same_value(value in json_value()) {
            let text = canonical_json(&value);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(canonical_json(&read), text);
        }

        #[test]
        fn every_double_reads_back_the_same(bits in any::<u64>()) {
            let double = f64::from_bits(bits);
            prop_assume!(double.is_finite());
            let mut text = String::new();
            write_double(&mut text, double);
            let read = text.parse::<f64>().unwrap();
            prop_assert!(read.to_bits() == double.to_bits() || double.abs().to_bits() == 0, "{text}");
        }
    }
}
