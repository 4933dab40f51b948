//! Times as AWS and people read them: RFC 3339, in UTC, to the second. A program reads them whole.

use jiff::Timestamp;

/// A time, to the second.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The same of Unix milliseconds; of what is no time, the number.
#[must_use]
pub fn seconds_of(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), seconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_second_is_left_out() {
        assert_eq!(seconds("2026-03-01T12:00:00.123456789Z".parse().unwrap()), "2026-03-01T12:00:00Z");
        assert_eq!(seconds_of(1_772_366_400_999), "2026-03-01T12:00:00Z");
        assert_eq!(seconds_of(i64::MAX), i64::MAX.to_string());
    }
}
