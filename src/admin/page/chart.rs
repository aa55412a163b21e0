//! The geometry of a chart: a bar for each minute of the last hour.

use std::time::Duration;

/// A bar, in units of the chart: its left edge, its top and its height.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: u64,
    pub(super) height: u64,
}

/// The height of a chart.
pub(super) const HEIGHT: u64 = 100;
/// From one bar to the next.
const STEP: usize = 10;

/// Bars for these values, as shares of `most`. A value above zero is always visible.
pub(super) fn bars(values: impl IntoIterator<Item = u64>, most: u64) -> Vec<Bar> {
    let bar = |(minute, value): (usize, u64)| {
        let height = (value * HEIGHT / most.max(1)).clamp(u64::from(value > 0) * 2, HEIGHT);
        (height > 0).then_some(Bar {
            x: minute * STEP + 1,
            y: HEIGHT - height,
            height,
        })
    };
    values.into_iter().enumerate().filter_map(bar).collect()
}

/// A duration as a value of a chart.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / HEIGHT)
        .min(u64::MAX / HEIGHT)
}

/// The top of a chart's scale: 1, 2 or 5 times a power of ten.
pub(super) fn scale(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let top = unit.saturating_mul(factor);
            if top >= most {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_its_share_and_never_invisible() {
        let bar = |x, height| Bar {
            x,
            y: HEIGHT - height,
            height,
        };
        assert_eq!(
            bars([50, 0, 100, 1, 900], 100),
            [bar(1, 50), bar(21, 100), bar(31, 2), bar(41, 100)]
        );
        assert_eq!(bars([0, 0], 0), []);
        assert_eq!(bars([micros(Duration::MAX)], 1), [bar(1, HEIGHT)]);
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (most, top) in [
            (0, 1),
            (1, 1),
            (3, 5),
            (5, 5),
            (11, 20),
            (9_999, 10_000),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(scale(most), top);
        }
    }
}
