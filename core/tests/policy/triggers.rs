//! When `normal` and `range` decide: at their first visit, after their period, and after an overflow.

use adaloss_core::{
    format::Format,
    policy::{
        Backoff, Config, Normal, Operands, Policy, Range, Recovery, Trigger, decide_from_operands,
        due, outgoing, recover,
    },
    scale::Scale,
    statistics::Statistics,
};

use crate::visit::{outcome, visit, with};

fn configs(format: Format) -> [Config; 2] {
    let config = Config::for_format(format);
    let normal = Policy::Normal(Normal::new(format, 1e-3).expect("a share"));
    [with(config, normal), with(config, Policy::Range(Range::new(format)))]
}

const VALUES: [f32; 2] = [0.01, -3.0e-4];

fn operands() -> Operands {
    Operands::Cast(Statistics::of(&VALUES))
}

#[test]
fn a_period_decides_at_every_nth_visit_exactly() {
    for config in configs(Format::E4M3.flushing()) {
        for period in [1, 2, 3, 7, 10, 100] {
            let config = config.with_period(period).expect("legal");
            let mut cell = config.cell();
            for at in 0..5 * period + 3 {
                let trigger = due(&config, &cell);
                let expected = if at == 0 { Trigger::First } else { Trigger::Period };
                assert_eq!(trigger, (at % period == 0).then_some(expected), "{period} {at}");
                if trigger.is_some() {
                    decide_from_operands(&config, &operands(), Scale::ONE, &mut cell);
                }
                visit(&config, &mut cell, &VALUES, Scale::ONE);
                assert_eq!(cell.age(), at % period + 1);
            }
        }
    }
}

/// Overflow moves the factor at once, in one move that is enough, and makes the cell decide; a caller that does
/// not want that is left alone.
#[test]
fn overflow_moves_at_once() {
    let incoming = Scale::saturating(3);
    let values = [1.0e30, 2.0e-3];
    for config in configs(Format::BINARY16) {
        let decided = || {
            let mut cell = config.cell();
            decide_from_operands(&config, &operands(), incoming, &mut cell);
            cell
        };
        let mut cell = decided();
        let seen = outcome(&config, outgoing(&config, &cell, incoming), &values, incoming);
        assert_eq!(seen.overflow, 1);
        let visited = visit(&config, &mut cell, &values, incoming);
        assert!(visited.again && visited.outcome.overflow == 0);
        let recovered = recover(&config, &seen, incoming);
        assert_eq!(recovered, Some(outgoing(&config, &cell, incoming)));
        assert_eq!(due(&config, &cell), Some(Trigger::Overflow));
        decide_from_operands(&config, &operands(), incoming, &mut cell);
        assert_eq!(due(&config, &cell), None);

        let config = config.with_recovery(Recovery::Skip);
        let (mut cell, before) = (decided(), decided());
        assert!(!visit(&config, &mut cell, &values, incoming).again);
        assert_eq!((cell.scale(), due(&config, &cell)), (before.scale(), None));
    }
}

/// One scale for the whole model: no cell is ever due, and no visit is remembered.
#[test]
fn whole_model_policies_have_no_triggers() {
    let config = Config::for_format(Format::BINARY16);
    for policy in [Policy::Fixed(Scale::ONE), Policy::Backoff(Backoff::GRAD_SCALER)] {
        let config = with(config, policy);
        let mut cell = config.cell();
        let before = cell;
        assert_eq!(due(&config, &cell), None);
        assert!(!visit(&config, &mut cell, &[f32::MAX, 1.0e-40], Scale::ONE).again);
        assert_eq!(cell, before);
    }
}
