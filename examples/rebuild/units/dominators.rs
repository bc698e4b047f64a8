//! Dominators, dominance frontiers and loops of a control-flow graph.
//!
//! K. Cooper, T. Harvey, K. Kennedy: A Simple, Fast Dominance Algorithm (2001).

pub type Block = usize;

/// The blocks' successors; block 0 is the entry.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub successors: Vec<Vec<Block>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dominators {
    /// The closest other dominator of each block; `None` for the entry and for unreachable blocks.
    pub immediate: Vec<Option<Block>>,
    /// The blocks at which each block's dominance ends.
    pub frontiers: Vec<Vec<Block>>,
    reached: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaturalLoop {
    pub header: Block,
    pub body: Vec<Block>,
}

impl Graph {
    pub fn predecessors(&self) -> Vec<Vec<Block>> {
        let mut predecessors = vec![Vec::new(); self.successors.len()];
        for (block, successors) in self.successors.iter().enumerate() {
            successors.iter().for_each(|&successor| predecessors[successor].push(block));
        }
        predecessors
    }

    /// Reachable blocks, each before its successors except along back edges. Not recursive.
    pub fn reverse_postorder(&self) -> Vec<Block> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.successors.len()];
        let mut open = Vec::new();
        if let Some(first) = seen.first_mut() {
            *first = true;
            open.push((0, 0));
        }
        while let Some((block, next)) = open.pop() {
            let Some(&successor) = self.successors[block].get(next) else {
                order.push(block);
                continue;
            };
            open.push((block, next + 1));
            if !std::mem::replace(&mut seen[successor], true) {
                open.push((successor, 0));
            }
        }
        order.reverse();
        order
    }

    pub fn dominators(&self) -> Dominators {
        let order = self.reverse_postorder();
        let predecessors = self.predecessors();
        let mut position = vec![usize::MAX; self.successors.len()];
        order.iter().enumerate().for_each(|(at, &block)| position[block] = at);
        // By position in the order, since a dominator always stands before what it dominates.
        let mut immediate: Vec<Option<usize>> = vec![None; order.len()];
        if let Some(entry) = immediate.first_mut() {
            *entry = Some(0);
        }
        let mut changed = true;
        while changed {
            changed = false;
            for at in 1..order.len() {
                let known = predecessors[order[at]].iter().map(|&block| position[block]);
                let known = known.filter(|&p| p != usize::MAX && immediate[p].is_some());
                let common = known.reduce(|a, b| nearest_common(&immediate, a, b));
                changed |= common != immediate[at];
                immediate[at] = common;
            }
        }
        let mut by_block = vec![None; self.successors.len()];
        for at in 1..order.len() {
            by_block[order[at]] = immediate[at].map(|dominator| order[dominator]);
        }
        let reached: Vec<bool> = position.iter().map(|&at| at != usize::MAX).collect();
        let frontiers = frontiers(&by_block, &predecessors, &reached);
        Dominators { immediate: by_block, frontiers, reached }
    }

    /// One loop for each header, outer headers first.
    pub fn natural_loops(&self) -> Vec<NaturalLoop> {
        let dominators = self.dominators();
        let predecessors = self.predecessors();
        let mut loops = Vec::new();
        for header in self.reverse_postorder() {
            let back_edges = predecessors[header].iter().copied().filter(|&from| dominators.dominates(header, from));
            let mut open: Vec<Block> = back_edges.collect();
            if open.is_empty() {
                continue;
            }
            let mut body = vec![header];
            while let Some(block) = open.pop() {
                if !body.contains(&block) {
                    body.push(block);
                    open.extend(predecessors[block].iter().filter(|&&from| dominators.reached[from]));
                }
            }
            body.sort_unstable();
            loops.push(NaturalLoop { header, body });
        }
        loops
    }
}

impl Dominators {
    /// Every reachable block dominates itself; an unreachable one neither dominates nor is dominated.
    pub fn dominates(&self, above: Block, below: Block) -> bool {
        let mut at = self.reached[below].then_some(below);
        while let Some(block) = at {
            if block == above {
                return true;
            }
            at = self.immediate[block];
        }
        false
    }
}

fn nearest_common(immediate: &[Option<usize>], mut a: usize, mut b: usize) -> usize {
    while a != b {
        let later = if a > b { &mut a } else { &mut b };
        *later = immediate[*later].expect("a processed block has a dominator");
    }
    a
}

fn frontiers(immediate: &[Option<Block>], predecessors: &[Vec<Block>], reached: &[bool]) -> Vec<Vec<Block>> {
    let mut frontiers = vec![Vec::new(); immediate.len()];
    for (join, sources) in predecessors.iter().enumerate() {
        for &source in sources.iter().filter(|&&source| reached[source]) {
            let mut runner = Some(source);
            while let Some(block) = runner.filter(|&block| Some(block) != immediate[join]) {
                if !frontiers[block].contains(&join) {
                    frontiers[block].push(join);
                }
                runner = immediate[block];
            }
        }
    }
    frontiers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[&[Block]]) -> Graph {
        Graph { successors: edges.iter().map(|successors| successors.to_vec()).collect() }
    }

    /// `above` dominates `below` if no path from the entry avoids it.
    fn by_definition(graph: &Graph, above: Block, below: Block) -> bool {
        let reach = |avoided: Option<Block>| {
            let mut seen = vec![false; graph.successors.len()];
            let mut open = vec![0];
            while let Some(block) = open.pop() {
                if Some(block) != avoided && !std::mem::replace(&mut seen[block], true) {
                    open.extend(&graph.successors[block]);
                }
            }
            seen[below]
        };
        reach(None) && !reach(Some(above))
    }

    #[test]
    fn the_result_is_the_definition_on_many_graphs() {
        let mut state = 1u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        for blocks in 1..12 {
            for _ in 0..40 {
                let successors = (0..blocks).map(|_| (0..random(3)).map(|_| random(blocks)).collect()).collect();
                let graph = Graph { successors };
                let dominators = graph.dominators();
                for above in 0..blocks {
                    for below in 0..blocks {
                        let expected = by_definition(&graph, above, below);
                        assert_eq!(dominators.dominates(above, below), expected, "{above} {below} {graph:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nested_loops_and_frontiers_are_found() {
        let graph = graph(&[&[1], &[2, 5], &[3], &[2, 4], &[1], &[], &[5]]);
        let loops = graph.natural_loops();
        assert_eq!(loops[0], NaturalLoop { header: 1, body: vec![1, 2, 3, 4] });
        assert_eq!(loops[1], NaturalLoop { header: 2, body: vec![2, 3] });
        assert_eq!(graph.dominators().frontiers[3], [1, 2]);
        assert_eq!(Graph::default().dominators().immediate, []);
    }
}
