"""Makes metrics.json, the numbers that examples/tasks/tests/parts/metrics_*.rs compare with.

    python tests/reference/metrics.py FOLDER > tests/reference/metrics.json

Made with scikit-learn 1.9.1, seqeval 1.2.2, NLTK 3.9.2 with its data `punkt_tab`
(English), and two official scripts in FOLDER:

- evaluate-v1.1.py of SQuAD (from jackalhan/R-Net on GitHub, commit f0f90fc8; its functions are
  the original's, word for word the same in other copies);
- cmrc2018_evaluate.py of CMRC 2018 (ymcui/cmrc2018 on GitHub, commit c0eb1b6b, `baseline/`).
"""

import importlib.util
import io
import json
import random
import sys
import warnings

import nltk
import sklearn.metrics
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

warnings.simplefilter("ignore")
rng = random.Random(20180210)


def script(name):
    spec = importlib.util.spec_from_file_location(name.split(".")[0].replace("-", "_"), f"{sys.argv[1]}/{name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


squad = script("evaluate-v1.1.py")
cmrc = script("cmrc2018_evaluate.py")


# Classes, one digit each.
def classification():
    cases = [
        ("0", "0"), ("1", "1"), ("0", "1"), ("1", "0"),
        ("0110", "0110"), ("1001", "0110"), ("0000", "0110"), ("1111", "0110"), ("0110", "0000"),
        ("0110", "1111"), ("0101", "0011"), ("012012", "012012"), ("120120", "012012"), ("000000", "012012"),
        ("012012", "111111"), ("0129", "9210"), ("3333333", "3333337"),
    ]  # fmt: skip
    for classes in [2, 2, 3, 5]:
        for _ in range(15):
            labels = [rng.randrange(classes) for _ in range(rng.randrange(1, 25))]
            kept = rng.random()
            predicted = [a if rng.random() < kept else rng.randrange(classes) for a in labels]
            cases.append(("".join(map(str, predicted)), "".join(map(str, labels))))
    for predicted, labels in cases:
        p, t = list(map(int, predicted)), list(map(int, labels))
        yield {
            "predicted": predicted,
            "labels": labels,
            "accuracy": sklearn.metrics.accuracy_score(t, p),
            "matthews": float(sklearn.metrics.matthews_corrcoef(t, p)),
            # Of class 1 against the others; the same as the binary score where there are two.
            "f1": float(sklearn.metrics.f1_score([a == 1 for a in t], [a == 1 for a in p], zero_division=0)),
        }


# Tags as words of a text; sentences are separated by `|`.
def sequences():
    odd = [
        "", "O", "B-A", "I-A", "E-A", "S-A", "I-A I-A", "O I-A I-A O", "B-A B-A", "B-A I-B", "B-A I-B I-A", "I-A I-B",
        "B-A I-A E-A", "B-A E-A E-A", "E-A E-A", "E-A I-A", "S-A S-A", "S-A I-A", "S-A E-A", "B-A S-A", "I-A S-A",
        "S-A B-A", "B-A E-B", "E-A E-B", "I-A E-B", "S-A S-B", "O E-A", "B-A O I-A", "B-A O E-A", "B I I", "I", "B B",
        "O I O", "B-A I", "B I-A", "E", "S", "B- I-_", "B-_ I", "B-A-B I-A-B I-A", "B-A-B I-B", "I-A B-A I-A",
        "B-A I-A B-B I-B O B-A", "S-A B-A I-A E-A O S-B", "B-人名 I-人名 I-地名", "B-a I-A",
    ]  # fmt: skip
    for tags in odd:
        found = get_entities(tags.split())
        yield {"tags": tags, "entities": [[kind, start, end] for kind, start, end in found]}


def tags(length, schemes, kinds):
    one = lambda: "O" if rng.random() < 0.4 else rng.choice(schemes) + rng.choice(kinds)
    return [one() for _ in range(length)]


def entities():
    cases = [
        ("B-A I-A O", "B-A I-A O"), ("O O O", "B-A I-A O"), ("B-A I-A O", "O O O"), ("O O", "O O"), ("I-A I-A", "B-A I-A"),
        ("B-A I-A|B-A", "B-A I-A|B-B"), ("B-A|I-A", "B-A|I-A"), ("|B-A", "|B-A"), ("B-B|O|B-C I-C", "B-A|B-B|I-C I-C"),
        ("B I O", "B-A I-A O"), ("B-A B-A B-A", "B-A I-A I-A"), ("S-A B-A E-A", "B-A B-A I-A"),
        ("B-MISC I-MISC O B-PER", "O B-MISC I-MISC B-PER"), ("B-Z B-a B-B", "B-a B-Z B-B"),
    ]  # fmt: skip
    for _ in range(60):
        schemes = rng.choice([["B", "I"], ["I"], ["B", "I", "E", "S"]])
        kinds = rng.choice([["-A"], ["-A", "-B"], ["-PER", "-LOC", "-ORG", ""]])
        kept = rng.random()
        labels = [tags(rng.randrange(7), schemes, kinds) for _ in range(rng.randrange(1, 4))]
        noise = lambda tag: tag if rng.random() < kept else tags(1, schemes, kinds)[0]
        predicted = [[noise(tag) for tag in sentence] for sentence in labels]
        join = lambda sentences: "|".join(" ".join(sentence) for sentence in sentences)
        cases.append((join(predicted), join(labels)))
    for predicted, labels in cases:
        p = [sentence.split() for sentence in predicted.split("|")]
        t = [sentence.split() for sentence in labels.split("|")]
        scores = lambda average: precision_recall_fscore_support(t, p, average=average, zero_division=0)
        kinds = sorted({kind for kind, _, _ in get_entities(p) + get_entities(t)})
        row = lambda values: [float(v) for v in values[:3]] + [int(values[3])]
        case = {"predicted": predicted, "labels": labels}
        case["types"] = {kind: row(values) for kind, values in zip(kinds, zip(*scores(None)))}
        for average in ["micro", "macro", "weighted"]:
            # The macro average of no types is NaN there.
            if kinds or average != "macro":
                case[average] = row(scores(average))
        yield case


def squad_cases():
    cases = [
        ("", [""]), ("", ["a"]), ("the", [""]), ("The.", ["a", "an"]), ("...", ["!?"]), ("x", ["the"]), ("", ["x", ""]),
        ("  Broncos ", ["Denver Broncos", "the Broncos"]), ("The Denver\tBroncos\n", ["denver broncos!"]),
        ("a cat and a dog", ["dog, cat"]), ("cat cat", ["cat"]), ("cat", ["cat cat cat"]), ("cat cat dog", ["cat dog dog"]),
        ("U.S.A.", ["USA"]), ("twenty-one", ["twenty one", "twentyone"]), ("a-b", ["ab", "b"]), ("snake_case", ["snakecase"]),
        ("an", ["man"]), ("athe", ["the a"]), ("theory of the anthem", ["theory of anthem"]), ("A a AN The THE", ["the"]),
        ("“quoted”", ["quoted", "\"quoted\""]), ("it’s", ["its", "it's"]), ("it's", ["its"]), ("1990–1995", ["1990-1995", "1990–1995"]),
        ("a\u0301", ["\u00e1", ""]), ("cafe\u0301", ["caf\u00e9", "cafe"]), ("\u00e1 la carte", ["la carte"]), ("the\u0301 x", ["\u0301 x"]),
        ("STRASSE", ["stra\u00dfe"]), ("ΑΣ ΣΑΣ", ["ας σας"]), ("\u0130stanbul", ["istanbul", "i\u0307stanbul"]), ("\u2160", ["\u2170"]),
        ("one\u00a0two", ["one two"]), ("one\u3000two", ["one two"]), ("one\u200btwo", ["one two", "onetwo"]), ("one\x1ctwo", ["one two"]),
        ("one\x85two\u2028three", ["one two three"]), ("北京。", ["北京", "北京。"]), ("a 北京", ["北京"]), ("a北京", ["北京"]),
        ("$5.50", ["$5.50", "5.50", "550"]), ("5%", ["5 percent", "5"]), ("a²", ["²"]), ("a\u20dd b", ["\u20dd b"]), ("Ⓐ the", ["ⓐ"]),
        ("a‿b", ["‿b"]), ("an\u094d x", ["\u094d x"]), ("a, b; c", ["c b a"]), ("the the the", ["a an"]), ("a!", ["?"]),
    ]  # fmt: skip
    words = ["the", "a", "An", "cat", "dog", "Cat.", "dog's", "in", "1990", "(b)", "--", "é", "x", "“x”", ","]
    phrase = lambda most: rng.choice(["", " "]) + " ".join(rng.choices(words, k=rng.randrange(most + 1)))
    while len(cases) < 160:
        cases.append((phrase(5), [phrase(4) for _ in range(rng.randrange(1, 4))]))
    for prediction, answers in cases:
        best = lambda metric: squad.metric_max_over_ground_truths(metric, prediction, answers)
        yield [prediction, answers, int(best(squad.exact_match_score)), best(squad.f1_score)]


SENTENCES = nltk.word_tokenize
ONE_SENTENCE = lambda text: nltk.tokenize.NLTKWordTokenizer().tokenize(text.rstrip())


def cmrc_cases():
    cases = [
        ("", [""]), ("", ["北"]), ("。", ["，"]), ("。", [""]), ("北京", ["北京"]), ("北京", ["南京", "北京市"]), ("北京。", ["北京"]),
        (" 北京 ", ["北京"]), ("。 北京", ["北京", " 北京"]), ("北 京", ["北京"]), ("“北京”", ["北京", "\"北京\""]), ("‘北京’", ["北京", "‘北京"]),
        ("……", ["", "…"]), ("北京……", ["北京", "北京…"]), ("《红楼梦》、《水浒传》", ["红楼梦和水浒传", "红楼梦水浒传"]), ("1990年", ["1990 年", "1990年5月", "一九九〇年"]),
        ("１９９０年", ["1990年", "１９９０年"]), ("3.5亿", ["3.5 亿", "35亿", "3,5亿"]), ("1,000人", ["1000人", "1，000人"]), ("covid-19病毒", ["COVID19病毒", "covid 19 病毒"]),
        ("NBA球员", ["nba 球员", "nba,球员"]), ("iPhone 4S手机", ["iphone 4s", "iphone 4 s 手机"]), ("a/b/c", ["abc", "a b c"]), ("(2008)", ["2008", "（2008）"]),
        ("don't知道", ["dont知道", "don 't", "do n't 知道", "not知道"]), ("it's一个", ["it is一个", "it 's 一个"]), ("\"hello\"世界", ["hello世界", "'' hello 世界"]),
        ("他说\"hello\"", ["他说hello", "\"他说hello\""]), ("cannot不能", ["can not", "can"]), ("gonna去wanna去", ["gon na 去", "wan na"]), ("wanna be的", ["wan na be"]),
        ("'tis是", ["tis", "it is"]), ("a 'tis是", ["'t is"]), ("'80年代", ["80年代", "' 80年代"]), ("'x年", ["x年", "' x"]), ("'s的", ["s的", "'s"]), ("x's y's的", ["x y 的"]),
        ("they'll we've you're i'm", ["they we you i", "'ll we 've"]), ("a...b中", ["a b中", "a ... b"]), ("u.s.的", ["us的", "u.s"]), ("u.s.", ["u.s", "u.s.。"]),
        ("end.)中", ["end 中", "end."]), ("中end.\")", ["end"]), ("a,b中", ["a, b中"]), ("a, b中", ["a ,b"]), (",", ["，", ""]), ("a,中", ["a", "a,"]), ("what?!中", ["what", "what?"]), ("what! no中", ["no中"]),
        ("100%的", ["100的", "100 %"]), ("a&b;c@d#e$f", ["a & b ; c @ d # e $ f"]), ("[a]{b}<c>中", ["abc", "a b c"]), ("((a))", ["( a )"]), ("\"\"''", ["\"", "''"]), ("(\"a\")中", ["a", "``"]),
        ("カタカナ中", ["カタ", "カタカナ"]), ("ひらがな", ["ひら がな"]), ("한국어中", ["한국어"]), ("㐀𠀀中", ["㐀", "𠀀中"]), ("龥龦中", ["龥", "龦中", "中"]), ("ＡＢＣ中", ["abc", "ａｂｃ"]),
        ("a\u0301中", ["\u00e1", "a"]), ("\u00e9\u0301't中", ["é"]), ("北\u3000京", ["北京"]), ("\u3000北京\u00a0", ["北京"]), ("\x1c北京\x1f", ["北京"]), ("一\n二", ["一二"]), ("a\tb中", ["a b"]), ("a\x1cb中", ["a b"]),
        ("。。。a。b", ["ab", "a b"]), ("~～－-", [""]), ("『a』「b」（c）", ["abc"]), ("【a】〈b〉", ["a b", "ab"]), ("中国中国中国", ["中国", "国中"]), ("甲乙丙丁戊", ["乙丙戊丁", "丁戊甲"]),
        ("，", ["。", "北"]), ("北京，上海", ["北京上海", "上海北京"]), ("don’t中", ["dont中", "don't中"]), ("ΑΣ中", ["ας", "ασ"]), ("s.k. to中", ["s.k. to中", "s.k to"]), ("e.g. by a", ["e.g by", "e.g."]),
        ("hello. world中", ["hello world", "hello . world"]), ("hi! \"yes\"中", ["yes", "hi yes"]), ("no.) yes.中", ["no yes", "no ."]), ("mr. smith中", ["smith", "mr. smith"]),
        ("dog's. cat中", ["dog cat"]), ("a. 'b'中", ["'b'"]), ("'' a中", ["a"]), ("a '' b中", ["a b"]), ("a' b中", ["a b"]), ("«a» „b‘中", ["a", "a b"]), ("a—b–c中", ["abc", "a—b"]),
        ("more'n d'ye gimme lemme gotta", ["more 'n", "d 'ye gim me lem me got ta"]), ("ſ'ſ't中", ["ſ"]), ("a'é中", ["' é"]), ("'é\u0301中", ["é"]), ("x';y中", ["x ' ;"]), ("١,٢中", ["١", "١,٢"]), ("a,١中", ["a"]),
        ("龦a中", ["a"]), ("龦龧中", ["龦 龧"]), ("'d 'm 't 'n 'l", ["d", "' d"]), ("x's' y中", ["x 's' y"]), ("wanna|x gonna|x", ["wan na", "gon na"]), ("end. »中", ["end"]), ("'tis'twas中", ["'t was"]),
    ]  # fmt: skip
    pieces = list("北京上海人民的中国年月") + ["，", "。", "《", "》", "·", " ", "-", "3.5", "1990", "NBA", "a's", "\"", "'", ",", "x", "（", "）", "(", ")", "don't", "%", "、", "“", "”"]
    phrase = lambda most: "".join(rng.choices(pieces, k=rng.randrange(most + 1)))
    while len(cases) < 230:
        answer = phrase(8)
        cut = answer[rng.randrange(len(answer) + 1) :] + phrase(3)
        cases.append((cut, [answer] + [phrase(8) for _ in range(rng.randrange(2))]))
    for prediction, answers in cases:
        nltk.word_tokenize = SENTENCES
        em, f1 = cmrc.calc_em_score(answers, prediction), cmrc.calc_f1_score(answers, prediction)
        with_sentences = [cmrc.mixed_segmentation(text, rm_punc=True) for text in [prediction] + answers]
        nltk.word_tokenize = ONE_SENTENCE
        segments = [cmrc.mixed_segmentation(text, rm_punc=True) for text in [prediction] + answers]
        case = [prediction, answers, em, f1, " ".join(segments[0])]
        # Where sentences make a difference: the score without them as well.
        if with_sentences != segments:
            case.append(cmrc.calc_f1_score(answers, prediction))
        yield case


def data_set(cases, evaluate):
    """All cases as one data set, of which every seventh question has no prediction."""
    questions = [{"id": str(i), "question": "", "answers": [{"text": a} for a in c[1]]} for i, c in enumerate(cases)]
    predictions = {str(i): c[0] for i, c in enumerate(cases) if i % 7 != 3}
    return evaluate([{"paragraphs": [{"qas": questions}]}], predictions)


def show(name, cases, last=False):
    lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases]
    print(f'"{name}":[\n' + ",\n".join(lines) + "\n]" + ("" if last else ","))


in_squad, in_cmrc = list(squad_cases()), list(cmrc_cases())
stderr, sys.stderr = sys.stderr, io.StringIO()  # the scripts tell of every missing prediction
totals = data_set(in_squad, squad.evaluate)
nltk.word_tokenize = ONE_SENTENCE
f1, em, total, missing = data_set(in_cmrc, lambda data, predictions: cmrc.evaluate({"data": data}, predictions))
sys.stderr = stderr
print("{")
show("classification", classification())
show("sequences", sequences())
show("entities", entities())
show("squad", in_squad)
show("cmrc", in_cmrc)
print('"squad_total":', json.dumps([totals["exact_match"], totals["f1"]]), ",")
print('"cmrc_total":', json.dumps([em, f1, total, missing, (em + f1) * 0.5]))
print("}")
