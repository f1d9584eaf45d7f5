//! Joins layers if an image would have too many.

use serde_json::json;

use crate::layer::LayerWork;

/// Joins adjacent joinable layers, the smallest first, until there are `excess` fewer layers or no more to join. Sets
/// `excess` to the remainder.
pub(super) fn join(mut work: Vec<LayerWork>, excess: &mut usize) -> Vec<LayerWork> {
    while *excess > 0 {
        let pairs = work.windows(2).enumerate().filter(|(_, pair)| pair.iter().all(|work| work.joinable));
        let Some((n, _)) = pairs.min_by_key(|(_, pair)| pair[0].size + pair[1].size) else { break };
        let upper = work.remove(n + 1);
        let lower = &mut work[n];
        lower.ingredients = lower.ingredients.take().zip(upper.ingredients).map(|(a, b)| json!({"joined": [a, b]}));
        lower.description = format!("{}; {}", lower.description, upper.description);
        lower.size += upper.size;
        lower.parts.extend(upper.parts);
        *excess -= 1;
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Step, StepConfig, StepKind, TarArchive};

    fn work(name: &str, size: u64, joinable: bool) -> LayerWork {
        let kind = StepKind::Archive(TarArchive { file: name.into() });
        let step = Step { kind, config: StepConfig::default(), line: 1, description: name.into(), bytecode: false };
        LayerWork { step, ingredients: Some(json!(name)), description: name.into(), size, parts: Vec::new(), joinable }
    }

    #[test]
    fn the_smallest_neighbours_come_together() {
        let all = || {
            vec![work("a", 9, true), work("b", 2, true), work("c", 1, true), work("d", 0, false), work("e", 0, true)]
        };
        let joined = |mut excess: usize| {
            let names: Vec<_> = join(all(), &mut excess).into_iter().map(|work| work.description).collect();
            (names.join(" | "), excess)
        };
        assert_eq!(joined(0), ("a | b | c | d | e".into(), 0));
        assert_eq!(joined(1), ("a | b; c | d | e".into(), 0));
        assert_eq!(joined(3), ("a; b; c | d | e".into(), 1));
        let one = join(all(), &mut 1).swap_remove(1);
        assert_eq!((one.size, one.ingredients), (3, Some(json!({"joined": ["b", "c"]}))));
    }
}
