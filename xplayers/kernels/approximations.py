"""Coefficients of the polynomials that stand in for functions which a library has slowly or not at all.

Each is a minimax fit (Lawson's iteration in float64, rounded to float32), lowest degree first, its error beside it.
"""

# e^r = 1 + r + r^2 P(r) for |r| <= log(2) / 2, to 3.4e-9
EXP = (0.5, 0.16666512191295624, 0.0416661873459816, 0.008369598537683487, 0.0013951719738543034)

# log(1 + f) = f - f^2 / 2 + f^3 P(f) for sqrt(1/2) <= 1 + f <= sqrt(2), to 6.1e-9 f
LOG = (
    0.33333316445350647,
    -0.2500082552433014,
    0.20002375543117523,
    -0.16623997688293457,
    0.14178822934627533,
    -0.13132217526435852,
    0.12900173664093018,
    -0.07872927188873291,
)

# log(1 + e) = e + e^2 P(e) for 0 <= e <= 1, to 2e-8 of its value
LOG1P = (
    -0.4999993145465851,
    0.33330512046813965,
    -0.24958588182926178,
    0.19695401191711426,
    -0.15355397760868073,
    0.10680557042360306,
    -0.05766446143388748,
    0.020204594358801842,
    -0.003318474628031254,
)

# erf(x) = tanh(x P(x^2) / 2): a tanh of something smooth that grows like x^2. To 3.1e-8 of its value for |x| <= 3.93
ERF = (
    2.256758451461792,
    0.20554262399673462,
    -0.00040430304943583906,
    -0.0012073630932718515,
    0.00015298000653274357,
    -3.722435394593049e-06,
    -1.0301293968950631e-06,
    1.0782754600313638e-07,
    -3.281320992698511e-09,
)

# Phi(x) = 1 / (1 + e^(-x P(x^2))), Phi the distribution function of the normal distribution: x Phi(x) to 9.3e-8, and
# with a leading coefficient above 0 Phi goes to 0 and 1 beyond the fit, |x| <= 5.4, by itself
NORMAL = (
    1.5957705974578857,
    0.07266412675380707,
    -6.34829411865212e-05,
    -0.00011120790441054851,
    8.02520207798807e-06,
    -2.714608910991956e-07,
    3.693323868958487e-09,
)
