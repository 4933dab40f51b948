//! The time that a report is about, in UTC, and the parts into which its charts cut it. Reads no clock.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use redress_common::time;
use serde::Serialize;

/// No chart has more columns.
const MOST_PARTS: i64 = 62;
const DAY_MS: i64 = 86_400_000;

/// From a moment to just before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Period {
    from: Timestamp,
    until: Timestamp,
}

/// A part of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its first day.
    pub(crate) day: Date,
    /// How many days it has.
    pub(crate) days: i64,
}

impl Period {
    /// `None` when it ends before it begins.
    pub(crate) fn new(from: Timestamp, until: Timestamp) -> Option<Self> {
        (from < until).then_some(Self { from, until })
    }

    /// A calendar month in UTC, such as `2026-10`.
    pub(crate) fn month(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is not a month such as 2026-10");
        let first: Date = format!("{text}-01").parse().map_err(|_| expected())?;
        let next = first.checked_add(1.month()).map_err(|_| expected())?;
        let midnight = |day: Date| day.to_zoned(TimeZone::UTC).map(|day| day.timestamp()).map_err(|_| expected());
        Self::new(midnight(first)?, midnight(next)?).ok_or_else(expected)
    }

    /// The same, but over at `now`: what has not happened is not counted as open.
    pub(crate) fn until_at_most(self, now: Timestamp) -> Option<Self> {
        Self::new(self.from, self.until.min(now))
    }

    pub(crate) const fn from(&self) -> Timestamp {
        self.from
    }

    pub(crate) const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether a time in Unix milliseconds is in it.
    pub(crate) fn has(&self, at: i64) -> bool {
        (self.from.as_millisecond()..self.until.as_millisecond()).contains(&at)
    }

    /// Its parts, each of the same number of days; the last may end after the period.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let width = self.width();
        let first = self.first_day();
        let mut days = Vec::new();
        for nth in 0..=self.last_day() / width {
            match first.checked_add((nth * width).days()) {
                Ok(day) => days.push(Part { day, days: width }),
                Err(_) => break,
            }
        }
        days
    }

    /// In which of its parts a time is.
    pub(crate) fn part_of(&self, at: i64) -> Option<usize> {
        let start = self.start_of_first_day();
        self.has(at).then(|| usize::try_from((at - start) / DAY_MS / self.width()).ok()).flatten()
    }

    /// For people.
    pub(crate) fn label(&self) -> String {
        format!("{} to {}", time::seconds(self.from), time::seconds(self.until))
    }

    fn first_day(&self) -> Date {
        self.from.to_zoned(TimeZone::UTC).date()
    }

    fn start_of_first_day(&self) -> i64 {
        self.from.as_millisecond().div_euclid(DAY_MS) * DAY_MS
    }

    /// The number of its last day, from 0.
    fn last_day(&self) -> i64 {
        (self.until.as_millisecond() - 1 - self.start_of_first_day()) / DAY_MS
    }

    /// Days, weeks, or as many days as it takes.
    fn width(&self) -> i64 {
        let days = self.last_day() + 1;
        let more = (days + MOST_PARTS - 1) / MOST_PARTS;
        if more <= 1 { 1 } else { more.max(7) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn period(from: &str, until: &str) -> Period {
        Period::new(from.parse().unwrap(), until.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_month_is_the_calendars() {
        assert_eq!(Period::month("2026-02").unwrap(), period("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"));
        assert_eq!(Period::month("2026-12").unwrap(), period("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
        for wrong in ["2026", "2026-13", "2026-1", "10-2026", "", "2026-10-01", "2026-10\u{e9}"] {
            assert!(Period::month(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_that_is_not_over_ends_now_and_one_that_has_not_begun_is_none() {
        let month = Period::month("2026-10").unwrap();
        let now = "2026-10-05T12:00:00Z".parse().unwrap();
        assert_eq!(month.until_at_most(now).unwrap().until(), now);
        assert_eq!(month.until_at_most("2026-09-30T00:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn a_month_has_its_days_and_a_quarter_its_weeks() {
        assert_eq!(Period::month("2026-10").unwrap().parts().len(), 31);
        let quarter = period("2026-07-01T00:00:00Z", "2026-10-01T00:00:00Z").parts();
        assert_eq!((quarter.len(), quarter[0].days, quarter[1].day.to_string()), (14, 7, "2026-07-08".to_owned()));
    }

    proptest! {
        #[test]
        fn every_moment_of_a_period_is_in_one_of_its_parts(from in 0i64..4_000_000_000, long in 1i64..100_000_000, at in 0.0f64..1.0) {
            let (start, end) = (Timestamp::from_second(from).unwrap(), Timestamp::from_second(from + long).unwrap());
            let period = Period::new(start, end).unwrap();
            let parts = period.parts();
            prop_assert!(parts.len() <= 1 + usize::try_from(MOST_PARTS).unwrap());
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let moment = from * 1000 + (at * (long * 1000) as f64) as i64;
            let part = period.part_of(moment).unwrap();
            prop_assert!(part < parts.len(), "{part} of {}", parts.len());
            prop_assert_eq!(period.part_of(from * 1000 - 1), None);
            prop_assert_eq!(period.part_of((from + long) * 1000), None);
        }
    }
}
