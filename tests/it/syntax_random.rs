//! Random programs: formatting keeps their meaning, and comments wherever they stand.

use crate::syntax::{assert_formats, read, shape};
use gdlc::base::span::{Span, Spanned};
use gdlc::syntax::ast::*;
use gdlc::syntax::format;
use proptest::prelude::*;

const NAMES: [&str; 14] = ["x", "c", "i", "j", "f", "res", "mlp", "d", "L", "dt", "norm", "w0", "layers", "_a"];
const NUMBERS: [&str; 6] = ["0", "2", "16", "0.5", "1e5", "2.5e-3"];

/// Draws a tree from bytes; when they run out, the simplest one.
struct Draw<'a> {
    bytes: &'a [u8],
    depth: usize,
}

impl Draw<'_> {
    fn below(&mut self, n: usize) -> usize {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first as usize % n
            }
            None => 0,
        }
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| draw(self))
    }

    fn some<T>(&mut self, least: usize, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = least + self.below(3);
        (0..count).map(|_| draw(self)).collect()
    }

    fn name(&mut self) -> String {
        NAMES[self.below(NAMES.len())].to_string()
    }

    fn ident(&mut self) -> Ident {
        Spanned { node: self.name(), span: Span::default() }
    }

    fn number(&mut self) -> Expr {
        expr(ExprKind::Number(NUMBERS[self.below(NUMBERS.len())].to_string()))
    }

    fn digits(&mut self) -> Expr {
        expr(ExprKind::Number(["1", "3", "32"][self.below(3)].to_string()))
    }

    fn atom(&mut self) -> Expr {
        if self.flag() { self.number() } else { expr(ExprKind::Name(self.name())) }
    }

    /// A flat size: products of powers of atoms.
    fn size(&mut self) -> Expr {
        let mut size = self.power();
        for _ in 0..self.below(3) {
            let op = if self.flag() { BinaryOp::Mul } else { BinaryOp::Div };
            size = expr(ExprKind::Binary { op, left: Box::new(size), right: Box::new(self.power()) });
        }
        size
    }

    fn power(&mut self) -> Expr {
        let base = self.atom();
        match self.below(4) {
            1 => expr(ExprKind::Binary { op: BinaryOp::Pow, left: Box::new(base), right: Box::new(self.atom()) }),
            _ => base,
        }
    }
}

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

/// Items and types.
impl Draw<'_> {
    fn program(&mut self) -> Program {
        Program { items: self.some(1, Self::item), trivia: Trivia::default() }
    }

    fn item(&mut self) -> Item {
        let span = Span::default();
        match self.below(8) {
            1 => {
                let path = ["graph", "a/b", "../my file.gdl"][self.below(3)].to_string();
                Item::Use { path: Spanned { node: path, span }, span }
            }
            2 => Item::Group { name: self.ident(), body: self.group_item(), span },
            3 => Item::Domain { name: self.ident(), body: self.domain(), span },
            4 => Item::Signal { name: self.ident(), ty: self.signal_type(), span },
            n => Item::Function(self.function(if n == 5 { Role::Model } else { Role::Layer })),
        }
    }

    fn function(&mut self, role: Role) -> Function {
        Function {
            role,
            name: self.ident(),
            params: self.some(0, |d| Param { name: d.ident(), default: d.maybe(Self::expr) }),
            args: self.some(0, |d| Argument { name: d.ident(), ty: d.maybe(Self::signal_type) }),
            result: self.maybe(Self::signal_type),
            body: self.expr(),
            span: Span::default(),
        }
    }

    fn group_item(&mut self) -> GroupExpr {
        let kind = match self.below(4) {
            1 => GroupKind::Matrices(self.some(1, |d| d.some(1, |d| d.some(1, Self::expr)))),
            2 => GroupKind::Permutations(self.some(1, |d| d.some(1, |d| d.some(1, |d| d.below(9) as u32)))),
            _ => return self.group(),
        };
        GroupExpr { kind, span: Span::default() }
    }

    fn group(&mut self) -> GroupExpr {
        let deep = self.descend();
        let kind = match self.below(if deep { 5 } else { 2 }) {
            0 => GroupKind::Name(self.name()),
            1 => GroupKind::Family(self.name(), vec![self.number()]),
            2 => GroupKind::Semidirect(Box::new(self.group()), Box::new(self.group())),
            3 => GroupKind::Product(Box::new(self.group()), Box::new(self.group())),
            _ => GroupKind::Family(self.name(), self.some(1, Self::expr)),
        };
        self.depth -= 1;
        GroupExpr { kind, span: Span::default() }
    }

    fn domain(&mut self) -> DomainExpr {
        let deep = self.descend();
        let kind = match self.below(if deep { 5 } else { 2 }) {
            0 => DomainKind::Name(self.ident()),
            1 | 2 => DomainKind::Constructor {
                name: self.ident(),
                sizes: self.some(1, |d| SizeExpr { value: d.expr(), hint: d.maybe(Self::expr) }),
                words: self.some(0, Self::ident),
                ambient: self.maybe(Self::ident),
            },
            3 => DomainKind::Product(Box::new(self.domain()), Box::new(self.domain())),
            _ => DomainKind::Complete(Box::new(self.domain())),
        };
        self.depth -= 1;
        DomainExpr { kind, under: self.maybe(Self::group), span: Span::default() }
    }

    fn signal_type(&mut self) -> SignalType {
        let span = Span::default();
        if self.flag() {
            return SignalType::Value { fibre: self.type_fibre(), span };
        }
        let mut domain = self.domain_leaf();
        for _ in 0..self.below(3) {
            domain = DomainRef::Product(Box::new(domain), Box::new(self.domain_leaf()));
        }
        SignalType::Over { domain, fibre: self.type_fibre(), span }
    }

    fn domain_leaf(&mut self) -> DomainRef {
        if self.flag() { DomainRef::Edges(self.ident()) } else { DomainRef::Name(self.ident()) }
    }

    fn type_fibre(&mut self) -> FibreExpr {
        FibreExpr { terms: self.some(1, Self::fibre_term), span: Span::default() }
    }

    /// In an expression only a counted term may follow `+`.
    fn fibre(&mut self) -> FibreExpr {
        let mut terms = self.some(1, Self::fibre_term);
        let counted = |t: &FibreTerm| {
            matches!(t.kind, FibreKind::Irrep { .. }) || t.count.is_some() && t.kind != FibreKind::Plain
        };
        let first = terms.remove(0);
        terms.retain(counted);
        terms.insert(0, first);
        FibreExpr { terms, span: Span::default() }
    }

    fn fibre_term(&mut self) -> FibreTerm {
        let span = Span::default();
        let kind = match self.below(13) {
            0 => return FibreTerm { count: Some(self.size()), kind: FibreKind::Plain, span },
            1 => {
                let parity = ['e', 'o', 'y'][self.below(3)];
                let kind = FibreKind::Irrep { l: self.below(20) as u32, parity };
                return FibreTerm { count: self.maybe(Self::digits), kind, span };
            }
            2 => FibreKind::Regular,
            3 => FibreKind::Vector,
            4 => FibreKind::Position,
            5 => FibreKind::Phase,
            6 => FibreKind::Scalar(self.maybe(Self::expr)),
            7 => FibreKind::Rotary(self.expr()),
            8 => FibreKind::Ball(self.expr()),
            9 => FibreKind::Class(self.expr()),
            10 => FibreKind::Quotient(self.group()),
            _ => FibreKind::Irreps { from: self.expr(), to: self.expr() },
        };
        FibreTerm { count: self.maybe(Self::size), kind, span }
    }
}

/// Expressions and statements.
impl Draw<'_> {
    /// Goes one deeper; false where it is deep enough.
    fn descend(&mut self) -> bool {
        self.depth += 1;
        self.depth < 6
    }

    fn boxed(&mut self) -> Box<Expr> {
        Box::new(self.expr())
    }

    fn expr(&mut self) -> Expr {
        let deep = self.descend();
        let kind = if deep { self.kind() } else { self.atom().kind };
        self.depth -= 1;
        expr(kind)
    }

    fn kind(&mut self) -> ExprKind {
        match self.below(34) {
            0..=3 => self.atom().kind,
            4 => self.tuple(),
            5 => ExprKind::Block(self.block()),
            6 => ExprKind::If { cond: self.boxed(), then: self.boxed(), otherwise: self.boxed() },
            7 => ExprKind::Neg(self.boxed()),
            8 => ExprKind::Length(self.boxed()),
            9..=13 => self.binary(),
            14..=16 => ExprKind::Pipe { value: self.boxed(), stage: self.boxed() },
            17 | 18 => ExprKind::Call { callee: self.boxed(), args: self.some(0, Self::expr) },
            19 | 20 => ExprKind::Bracket { base: self.boxed(), args: self.some(1, Self::expr) },
            21 => ExprKind::Dot { base: self.boxed(), field: self.ident() },
            22 => ExprKind::Named { value: self.boxed(), name: self.ident() },
            23 | 24 => self.comprehension(),
            25 => ExprKind::Scan { state: self.ident(), init: self.boxed(), over: self.boxed(), body: self.boxed() },
            26 => ExprKind::Tangent(self.boxed()),
            27 => ExprKind::Break(self.boxed()),
            28 | 29 => self.linear(),
            _ => self.word(),
        }
    }

    fn tuple(&mut self) -> ExprKind {
        let fields = self.some(1, |d| Field { name: d.maybe(Self::ident), value: d.expr() });
        match fields.as_slice() {
            [Field { name: None, value }] => value.kind.clone(),
            _ => ExprKind::Tuple(fields),
        }
    }

    fn binary(&mut self) -> ExprKind {
        use BinaryOp::*;
        let op = [Add, Sub, Mul, Div, Pow, Concat, Eq, Ne, Lt, Le, Gt, Ge][self.below(12)];
        ExprKind::Binary { op, left: self.boxed(), right: self.boxed() }
    }

    fn comprehension(&mut self) -> ExprKind {
        use ComprehensionHow::*;
        let how = [Sum, Mean, Max, Softmax, Attend][self.below(5)];
        let relation = match self.below(4) {
            0 => Relation::All,
            1 => Relation::Neighbours(self.ident()),
            2 => Relation::Others(self.ident()),
            _ => Relation::UpTo(self.ident()),
        };
        let score = (how == Attend).then(|| self.expr());
        ExprKind::Comprehension(Box::new(Comprehension {
            how,
            index: self.ident(),
            relation,
            score,
            body: self.expr(),
        }))
    }

    fn linear(&mut self) -> ExprKind {
        let over = self.maybe(Self::neighbourhood);
        let name = expr(ExprKind::Name("r".into()));
        let (mut at, mut by) = (None, None);
        if over.is_some() {
            at = self.maybe(|d| match d.maybe(Self::ident) {
                Some(field) => expr(ExprKind::Dot { base: Box::new(name.clone()), field }),
                None => name.clone(),
            });
            by = self.maybe(|d| match d.flag() {
                true => expr(ExprKind::Bracket { base: Box::new(name.clone()), args: d.some(1, Self::expr) }),
                false => name.clone(),
            });
        }
        ExprKind::Linear(Box::new(Linear {
            depthwise: self.flag(),
            fibre: self.fibre(),
            over,
            at,
            by,
            nobias: self.flag(),
            convention: self.maybe(Self::ident),
        }))
    }

    fn neighbourhood(&mut self) -> Neighbourhood {
        let kind = match self.below(10) {
            0 => NeighbourhoodKind::All,
            1 => NeighbourhoodKind::Box(self.some(1, Self::expr)),
            2 => NeighbourhoodKind::Box(self.some(2, Self::digits)),
            3 => NeighbourhoodKind::Disk(self.expr()),
            4 => NeighbourhoodKind::Past(self.maybe(Self::expr)),
            5 => NeighbourhoodKind::Cap(self.expr()),
            6 => NeighbourhoodKind::Ring(self.atom()),
            7 => NeighbourhoodKind::Edges,
            _ => NeighbourhoodKind::Number(self.size()),
        };
        Neighbourhood { kind, span: Span::default() }
    }

    fn word(&mut self) -> ExprKind {
        match self.below(11) {
            0 => ExprKind::Lift,
            1 => ExprKind::Bilinear { fibre: self.fibre(), depthwise: self.flag() },
            2 => ExprKind::Symmetric { degree: Box::new(self.atom()), fibre: self.fibre() },
            3 => ExprKind::Harmonics { from: Box::new(self.size()), to: Box::new(self.size()) },
            4 => ExprKind::Bessel { count: Box::new(self.size()), cutoff: Box::new(self.size()) },
            5 => {
                let how = [CoarsenHow::Mean, CoarsenHow::Max, CoarsenHow::Stride][self.below(3)];
                ExprKind::Coarsen { how, factor: Box::new(self.size()) }
            }
            6 => ExprKind::Refine { factor: Box::new(self.size()) },
            7 => ExprKind::Restrict(self.group()),
            8 => {
                let how = [PoolHow::Sum, PoolHow::Mean, PoolHow::Max][self.below(3)];
                ExprKind::Pool { how, over: self.maybe(Self::ident) }
            }
            9 => ExprKind::Recur(self.fibre()),
            _ => ExprKind::Learn { name: self.ident(), fibre: self.fibre(), init: self.maybe(Self::boxed) },
        }
    }

    fn block(&mut self) -> Block {
        Block { stmts: self.some(0, Self::stmt), result: self.boxed() }
    }

    fn stmt(&mut self) -> Stmt {
        let span = Span::default();
        let deep = self.descend();
        let stmt = match self.below(if deep { 4 } else { 2 }) {
            0 => Stmt::Let { names: self.some(1, Self::ident), value: self.expr(), span },
            1 | 2 => {
                Stmt::Pointwise { name: self.ident(), indices: self.some(1, Self::ident), value: self.expr(), span }
            }
            _ => Stmt::Repeat { count: self.expr(), body: self.some(1, Self::stmt), span },
        };
        self.depth -= 1;
        stmt
    }
}

fn draw(bytes: &[u8]) -> Program {
    Draw { bytes, depth: 0 }.program()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsing_inverts_formatting(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let program = draw(&bytes);
        let text = format(&program);
        let (again, mistakes) = read(&text);
        prop_assert!(mistakes.is_empty(), "{mistakes:?}\n{text}");
        prop_assert_eq!(shape(&again), shape(&program), "{}", text);
        prop_assert_eq!(format(&again), text);
    }

    /// Comments put wherever a line may end survive, in order, and change nothing.
    #[test]
    fn comments_survive_anywhere(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        places in proptest::collection::vec((any::<u16>(), any::<bool>()), 1..6),
    ) {
        let mut text = format(&draw(&bytes));
        for (n, (place, own_line)) in places.into_iter().enumerate() {
            let spaces: Vec<usize> = text.match_indices([' ', '\n', '(', ',']).map(|(at, _)| at + 1).collect();
            let at = spaces[place as usize % spaces.len()];
            let comment = format!("{}# note {n}\n", if own_line { "\n" } else { "" });
            let mut noted = text.clone();
            noted.insert_str(at, &comment);
            // Not every place may end a line.
            if read(&noted).1.is_empty() && shape(&read(&noted).0) == shape(&read(&text).0) {
                text = noted;
            }
        }
        assert_formats("a random program", &text);
    }
}
