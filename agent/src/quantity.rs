//! Kubernetes quantities (`100m`, `1.5Gi`) as numbers. Pure.
//!
//! A newcomer's trap: results are rounded up, as Kubernetes rounds: `0.5` bytes is 1 byte, and
//! `100u` CPU is one thousandth.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up: CPU.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1_000)
}

/// The value in whole units, rounded up: bytes, pods.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// `text * factor`, rounded away from zero. `None` if it is no quantity or does not fit.
fn scaled(text: &str, factor: i128) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiply, divide) = suffix_factor(suffix)?;
    let numerator = digits.checked_mul(multiply)?.checked_mul(factor)?;
    let denominator = divide.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
    let rounded = numerator / denominator + i128::from(numerator % denominator != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

/// What a suffix multiplies and divides by.
fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let value = 10i128.checked_pow(power.unsigned_abs().min(30))?;
            if power < 0 { (1, value) } else { (value, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases = [
            ("100m", Some(100), Some(1)),
            ("1", Some(1_000), Some(1)),
            ("1.5", Some(1_500), Some(2)),
            ("64Mi", Some(67_108_864_000), Some(67_108_864)),
            ("1e3", Some(1_000_000), Some(1_000)),
            ("1E", None, Some(1_000_000_000_000_000_000)),
            ("100u", Some(1), Some(1)),
            ("-2", Some(-2_000), Some(-2)),
            (".5Gi", Some(536_870_912_000), Some(536_870_912)),
            ("", None, None),
            ("1Zi", None, None),
            ("1.2.3", None, None),
            ("m", None, None),
        ];
        for (text, thousandths, whole) in cases {
            let quantity = Quantity(text.to_owned());
            assert_eq!(milli(&quantity), thousandths, "{text} in thousandths");
            assert_eq!(units(&quantity), whole, "{text} in units");
        }
    }
}
