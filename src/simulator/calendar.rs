//! Dates, for messages and certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A date as the API writes it: `2019-05-02T18:20:43.000+0000`.
pub(super) fn date(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs() % 86_400;
    let (year, month, day) = civil(since.as_secs() / 86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}+0000",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

/// The year of a time.
pub(super) fn year(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    civil(since.as_secs() / 86_400).0
}

/// Year, month and day, so many days after 1 January 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years from 1 March, in eras of 400, put the leap day last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_api_does() {
        let at = |seconds, millis: u32| UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        assert_eq!(date(at(0, 0)), "1970-01-01T00:00:00.000+0000");
        assert_eq!(date(at(1_556_821_243, 7)), "2019-05-02T18:20:43.007+0000");
        assert_eq!(date(at(1_709_164_800, 0)), "2024-02-29T00:00:00.000+0000");
    }

    #[test]
    fn a_year_ends_with_december() {
        let at = |seconds| year(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!((at(1_735_689_599), at(1_735_689_600)), (2024, 2025));
    }
}
