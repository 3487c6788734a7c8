//! Durations as people write them: `500ms`, `5s`, `1m`, `2h`.

use std::time::Duration;

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(600);

/// A whole number and its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let bad = |why: &str| format!("{why}; write a whole number and ms, s, m or h, such as 500ms");
    if number.is_empty() {
        return Err(bad("no number"));
    }
    let number: u64 = number.parse().map_err(|_| bad("the number is too large"))?;
    let per_unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(bad(&format!("{text} has no unit"))),
        other => return Err(bad(&format!("{other:?} is no unit"))),
    };
    let ms = number.checked_mul(per_unit_ms).ok_or_else(|| bad("the number is too large"))?;
    Ok(Duration::from_millis(ms))
}

/// A TTL: 1 s to 10 min.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse(text)?;
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!("{text} is out of range; a TTL is 1s to 10m"))
    }
}

/// In words for people: `350 ms`, `4.2 s`.
pub fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        let table = [("500ms", 500), ("5s", 5_000), ("1m", 60_000), ("2h", 7_200_000), ("0s", 0)];
        for (text, ms) in table {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn bad_ones_name_the_units() {
        for text in ["5", "", "s", "5 s", "1.5s", "-1s", "5d", "99999999999999999999s", "9e9h"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("ms, s, m or h"), "{text}: {error}");
        }
        assert!(parse("18446744073709551615h").is_err());
    }

    #[test]
    fn the_range_of_a_ttl() {
        assert!(parse_ttl("1s").is_ok() && parse_ttl("10m").is_ok());
        for text in ["999ms", "601s", "1h"] {
            assert!(parse_ttl(text).unwrap_err().contains("1s to 10m"), "{text}");
        }
    }

    #[test]
    fn shown() {
        assert_eq!(show(Duration::from_millis(350)), "350 ms");
        assert_eq!(show(Duration::from_millis(4_250)), "4.2 s");
    }
}
