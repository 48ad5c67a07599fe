#!/bin/bash
# A long race in stages, the cheap contestants first; whole rows all the way, so that it may be stopped at any time.
#
#     OMP_NUM_THREADS=1 bash benchmarks/races/campaign.sh [SEEDS] [TRIALS] [OURS]
#
# One core: about 12 minutes a seed of stage 1 on an idle machine, 3 hours a seed of stage 2.
seeds=${1:-30} trials=${2:-100} ours=${3:-auto,gp}
single="hpobench,fcnet,nasbench201,lcbench,xgboost,xgboost_openml,kernels,rag,functions,bbob"
race="foretune bench race"
for ((s = 0; s < seeds; s++)); do
  $race --seeds "$s-$s" --trials "$trials" --tasks "$single,conditional,noise,hpobench_noisy" \
    --samplers "random,$ours" --peers optuna.tpe,optuna.cmaes,nevergrad.ngopt
  $race --seeds "$s-$s" --trials 60 --tasks duplicates --samplers "random,$ours" --peers optuna.tpe,optuna.gp
  $race --seeds "$s-$s" --trials 100 --tasks zombies --samplers "random,$ours" --peers optuna.tpe,optuna.gp
  $race --seeds "$s-$s" --runs 20 --tasks lcbench \
    --samplers random+full,random+asha,random+hyperband,gp+full,gp+asha,gp+hyperband \
    --peers optuna.hyperband,syne_tune.asha,syne_tune.bohb,syne_tune.ashacqr,dehb.default,smac.mf,neps.priorband
done
for ((s = 0; s < seeds; s++)); do
  $race --seeds "$s-$s" --trials "$trials" --tasks "$single" --samplers "" \
    --peers optuna.gp,smac.rf,syne_tune.cqr,ax.default,hebo.default,neps.bo
done
